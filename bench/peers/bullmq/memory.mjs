// Adds jobs and prints the store's memory per job (bytes) and its CPU per job (µs) as JSON: while they wait, and when they have
// ended and are kept. Arguments: the number of jobs, the bytes of their data, and how many are added by one call.
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

const [count, bytes, together] = process.argv.slice(2).map(Number);
const connection = new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const data = bytes < 12 ? {} : { text: 'x'.repeat(bytes - 11) };

async function look() {
  const info = await connection.info();
  const events = (await connection.memory('USAGE', 'bull:bench:events', 'SAMPLES', 0)) ?? 0;
  const number = (name) => Number(info.match(new RegExp(`^${name}:(.*)`, 'm'))[1]);
  // The stream of all events is bounded.
  return { memory: number('used_memory') - events, cpu: number('used_cpu_user_main_thread') + number('used_cpu_sys_main_thread') };
}
const per = (before, after) => ({
  bytes: (after.memory - before.memory) / count, us: ((after.cpu - before.cpu) / count) * 1e6,
});

const queue = new Queue('bench', { connection });
await queue.add('noop', data);
const before = await look();
for (let i = 0; i < count; i += together) {
  if (together === 1) await queue.add('noop', data);
  else await queue.addBulk(Array.from({ length: together }, () => ({ name: 'noop', data })));
}
const waiting = await look();
const worker = new Worker('bench', async () => null, { connection, concurrency: together });
while ((await queue.getCompletedCount()) < count) await new Promise((done) => setTimeout(done, 500));
const ended = await look();
await worker.close();
await queue.close();
connection.disconnect();
console.log(JSON.stringify({ waiting: per(before, waiting), ended: { ...per(waiting, ended), bytes: per(before, ended).bytes } }));
