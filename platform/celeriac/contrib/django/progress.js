// Fills the elements of the template tag `celeriac_progress` with what their tasks report, live.

import { NotificationClient } from './client.js';

/** How long a task may be unknown until its element says so (ms): a row of an outbox waits for a relay. */
const PATIENCE_MS = 5000;
/** After so many attempts to connect, the console has a hint. */
const MANY_ATTEMPTS = 3;

const elements = [...document.querySelectorAll('[data-celeriac-task]')];

const showing = (taskId) => elements.filter((element) => element.dataset.celeriacTask === taskId);

async function credential(element) {
  const answer = await fetch(element.dataset.token, { credentials: 'same-origin', headers: { Accept: 'application/json' } });
  if (!answer.ok) throw new Error(`the token was refused: ${answer.status}`);
  return answer.json();
}

function show(element, task) {
  const bar = element.querySelector('progress');
  bar.hidden = false;
  if (task.status === 'completed') bar.value = 100;
  else if (task.progress > 0) bar.value = task.progress;
  else if (task.status === 'pending') bar.removeAttribute('value');
  element.dataset.status = task.status;
  element.querySelector('[data-part=message]').textContent = task.error || task.message || task.status;
  element.dispatchEvent(new CustomEvent('celeriac:task', { bubbles: true, detail: task }));
}

/** A task that is another user's, or that is long over: nothing will be told of it. */
function giveUp(element) {
  setTimeout(() => {
    if (element.dataset.status) return;
    element.dataset.status = 'unknown';
    element.querySelector('progress').hidden = true;
  }, PATIENCE_MS);
}

if (elements.length) {
  const first = await credential(elements[0]);
  let fresh = first.token;
  const client = new NotificationClient(first.url, first.user_id, {
    // The first one was just made; each later connection has a new one.
    token: async () => {
      const token = fresh ?? (await credential(elements[0])).token;
      fresh = null;
      return token;
    },
  });
  const told = (task) => showing(task.task_id).forEach((element) => show(element, task));
  client.on('active', (tasks) => tasks.forEach(told));
  client.on('task', told);
  client.on('error', ({ code, task_id: taskId }) => {
    if (code === 'task_not_found') showing(taskId).forEach(giveUp);
  });
  let attempts = 0;
  client.on('state', (state) => {
    if (state === 'open') attempts = -Infinity;
    else if (state === 'connecting' && ++attempts === MANY_ATTEMPTS) {
      console.warn(`celeriac: ${first.url} cannot be reached from this page. Does the setting access.cors_origins name ${location.origin}?`);
    }
  });
  // One that has ended is not among the active ones.
  for (const element of elements) client.subscribe(element.dataset.celeriacTask);
  client.connect();
}
