// A worker that does nothing, with as many jobs at once as BENCH_CONCURRENCY says.
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';

const connection = new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const worker = new Worker('bench', async () => null, { connection, concurrency: Number(process.env.BENCH_CONCURRENCY) });

process.on('SIGTERM', async () => {
  await worker.close();
  process.exit(0);
});
