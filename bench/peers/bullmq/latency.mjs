// Adds one job after another, waits for each result, and prints one line of JSON: {latencies_ms: [...]}.
// Arguments: the number of jobs, the payload as JSON, and the number of jobs before those that count (100).
import { Queue, QueueEvents } from 'bullmq';
import { Redis } from 'ioredis';

const [count, payload, warmUp] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4] ?? 100)];
const data = JSON.parse(payload ?? '{}');
const connect = () => new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const connections = [connect(), connect()];
const queue = new Queue('bench', { connection: connections[0] });
const events = new QueueEvents('bench', { connection: connections[1] });
await events.waitUntilReady();

const latencies = [];
for (let i = 0; i < warmUp + count; i++) {
  const began = performance.now();
  const job = await queue.add('noop', data);
  await job.waitUntilFinished(events, 60_000);
  if (i >= warmUp) latencies.push(performance.now() - began);
}
console.log(JSON.stringify({ latencies_ms: latencies }));
await events.close();
await queue.close();
for (const connection of connections) connection.disconnect();
