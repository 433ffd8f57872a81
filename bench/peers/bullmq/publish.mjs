// Publishes jobs and prints one line of JSON: {count, seconds, cpu_s}.
// Arguments: add | bulk, the number of jobs, the payload as JSON, and how many jobs are under way or in one addBulk (64).
// `add` is a closed loop: each of its callers adds a job when its last one is in the store.
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';

const [how, count, payload, width] = [process.argv[2], Number(process.argv[3]), process.argv[4], Number(process.argv[5] ?? 64)];
const data = JSON.parse(payload ?? '{}');
const connection = new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const queue = new Queue('bench', { connection });
await queue.waitUntilReady();

const began = performance.now();
const cpu = process.cpuUsage();
let left = count;
if (how === 'bulk') {
  while (left > 0) {
    const size = Math.min(width, left);
    left -= size;
    await queue.addBulk(Array.from({ length: size }, () => ({ name: 'noop', data })));
  }
} else {
  const caller = async () => {
    while (left-- > 0) await queue.add('noop', data);
  };
  await Promise.all(Array.from({ length: width }, caller));
}
const { user, system } = process.cpuUsage(cpu);
console.log(JSON.stringify({ count, seconds: (performance.now() - began) / 1000, cpu_s: (user + system) / 1e6 }));
await queue.close();
connection.disconnect();
