import { NotificationClient } from "./celeriac-notifications.js";

const api = new URLSearchParams(location.search).get('api') ?? location.origin;

const list = document.querySelector('ul');
const shown = new Map();
let client;

function show(task) {
  let item = shown.get(task.task_id);
  if (!item) {
    item = document.createElement('li');
    item.append(document.createElement('b'), document.createElement('span'), document.createElement('progress'));
    shown.set(task.task_id, item);
    list.prepend(item);
  }
  const [name, text, bar] = item.children;
  name.textContent = task.task_id;
  text.textContent = [task.status, task.step, task.error ?? task.message].filter(Boolean).join(' · ');
  bar.max = 100;
  bar.value = task.progress;
}

document.querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const { user, token } = Object.fromEntries(new FormData(event.target));
  client?.close();
  client = new NotificationClient(api, user, { token });
  client.on('state', (state) => (document.querySelector('#state').textContent = state));
  client.on('active', (tasks) => tasks.forEach(show));
  client.on('task', show);
  client.on('error', (error) => alert(error.message));
  client.connect();
});
