// Node's own HTTP server in front of a queue, on a port of the loopback (argument).
// POST /tasks adds one job {type, payload} and answers 202 with its id; POST /tasks/batch adds {tasks: [...]} with addBulk.
import { createServer } from 'node:http';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';

const connection = new Redis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const queue = new Queue('bench', { connection });
await queue.waitUntilReady();

const routes = {
  '/tasks': async ({ type, payload }) => ({ task_id: (await queue.add(type, payload)).id }),
  '/tasks/batch': async ({ tasks }) => {
    const jobs = await queue.addBulk(tasks.map(({ type, payload }) => ({ name: type, data: payload })));
    return { results: jobs.map((job) => ({ task_id: job.id })) };
  },
};

async function answer(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = JSON.stringify(await routes[request.url](JSON.parse(Buffer.concat(chunks))));
  response.writeHead(202, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

createServer((request, response) => {
  answer(request, response).catch((error) => response.writeHead(500).end(String(error)));
}).listen(Number(process.argv[2]), '127.0.0.1');
