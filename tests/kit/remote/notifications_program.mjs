// Prints what the client hears, one JSON text a line; commands come as lines on standard input.
import { createInterface } from 'node:readline';
import { NotificationClient } from 'celeriac-notifications';
import { WebSocket } from 'ws';

const [url, userId, token, heartbeatMs] = process.argv.slice(2);
const say = (event, value) => process.stdout.write(`${JSON.stringify({ event, value })}\n`);
const client = new NotificationClient(url, userId, {
  token: () => token,
  WebSocket,
  reconnectMaxMs: 200,
  heartbeatMs: Number(heartbeatMs),
  heartbeatTimeoutMs: 500,
});
for (const event of ['active', 'task', 'snapshot', 'state', 'error']) client.on(event, (value) => say(event, value));
createInterface({ input: process.stdin }).on('line', (line) => {
  const [command, argument] = line.split(' ');
  client[command](argument);
});
client.connect();
