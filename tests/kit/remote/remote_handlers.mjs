// A handler that does what a task's data says: node remote_handlers.mjs URL GROUP CONCURRENCY
import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimited, RemoteWorker, SkipRetry } from 'celeriac-worker';
import { WebSocket } from 'ws';

const [url, group, concurrency] = process.argv.slice(2);

// The tasks that were told to come back later.
const told = new Set();

async function handle(task) {
  task.progress(10, 'begun', { stage: 'first' });
  const data = task.data ?? {};
  task.log('begun with care', { data: { password: 'pw', odd: '{1}' } });
  for (let n = 0; n < (data.lines ?? 0); n++) task.log('a line', { level: 'warning', data: { n, long: 'x'.repeat(1000) } });
  if (data.fail) throw new TypeError(data.fail);
  if (data.skip) throw new SkipRetry(data.skip, { code: 'no_use' });
  if (data.later !== undefined && !told.has(task.id)) {
    told.add(task.id);
    throw new RateLimited('too many', { retryAfterS: data.later });
  }
  if (data.sleep_s) await sleep(data.sleep_s * 1000, undefined, { signal: task.signal });
  if (data.stubborn_s && task.attempt === 1) {
    await sleep(data.stubborn_s * 1000);
    task.signal.throwIfAborted();
  }
  if (data.nonsense) return () => {};
  for (const part of data.parts ?? []) await task.delta(part);
  return { echo: task.data, model: task.model, attempt: task.attempt };
}

const token = process.env.CELERIAC_TOKEN;
const options = {
  group, token, concurrency: Number(concurrency), models: ['m'], name: 'tester', reconnectMaxMs: 500, WebSocket,
};
await new RemoteWorker(url, handle, options).run();
console.log('ended');
