// A remote worker that writes its answer word by word. Start it: node worker.js [URL [GROUP]]
import { setTimeout as sleep } from 'node:timers/promises';
import { RemoteWorker, SkipRetry, WorkerRefusedError } from 'celeriac-worker';
import { WebSocket } from 'ws';

const [url = 'http://127.0.0.1:8000', group = 'default'] = process.argv.slice(2);

/** Repeat the last message. */
async function handle(task) {
  if (task.messages.length === 0) throw new SkipRetry('this worker answers chat messages only', { code: 'no_messages' });
  const words = String(task.messages.at(-1).content).split(' ');
  for (const [index, word] of words.entries()) {
    await task.delta(index === 0 ? word : ` ${word}`);
    task.progress((100 * (index + 1)) / words.length, `${index + 1} of ${words.length} words`);
    await sleep(50, undefined, { signal: task.signal });
  }
  return { content: words.join(' ') };
}

// Node 22 and later have a built-in WebSocket, so there `ws` can be left out.
const worker = new RemoteWorker(url, handle, { group, models: ['parrot'], concurrency: 8, WebSocket });
try {
  await worker.run();
} catch (error) {
  if (!(error instanceof WorkerRefusedError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
