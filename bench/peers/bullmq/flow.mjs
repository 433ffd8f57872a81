// Adds one flow, waits for its root, and prints how long adding and waiting took (seconds).
// Arguments: chain | fan, and the number of jobs. A flow is a tree: the children of a job run before it.
import { FlowProducer, QueueEvents } from 'bullmq';
import { Redis } from 'ioredis';

const [shape, count] = [process.argv[2], Number(process.argv[3])];
const connection = new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const job = (children) => ({ name: 'noop', queueName: 'bench', data: {}, children });

let root = job();
if (shape === 'chain') {
  for (let i = 1; i < count; i++) root = job([root]);
} else {
  root = job(Array.from({ length: count - 1 }, () => job()));
}

const events = new QueueEvents('bench', { connection });
await events.waitUntilReady();
const producer = new FlowProducer({ connection });
const began = performance.now();
const added = await producer.add(root);
const published = performance.now();
await added.job.waitUntilFinished(events, 300_000);
console.log((published - began) / 1000, (performance.now() - published) / 1000);
await producer.close();
await events.close();
connection.disconnect();
