// A remote worker that needs only a standard WebSocket client: npm install
import WebSocket from 'ws';

const url = process.argv[2] ?? 'ws://127.0.0.1:8000/ws?group=default';

/** Do a task: `payload` has `model`, `messages` and `data`. */
async function work({ data, messages }) {
  if (data?.fail) throw new Error(data.fail);
  return { echo: data ?? messages };
}

function connect() {
  const socket = new WebSocket(url);
  const say = (message) => socket.send(JSON.stringify(message));

  socket.on('message', async (text) => {
    const message = JSON.parse(text);
    if (message.type === 'connected') {
      console.log('connected as', message.workerId);
      say({ type: 'ready' });
    } else if (message.type === 'ping') {
      say({ type: 'pong' });
    } else if (message.type === 'task') {
      const { taskId, payload } = message;
      const began = Date.now();
      try {
        say({ type: 'task_complete', taskId, result: await work(payload), duration: Date.now() - began });
      } catch (error) {
        say({ type: 'task_error', taskId, error: error.message, duration: Date.now() - began });
      }
    }
  });
  socket.on('error', (error) => console.error(error.message));
  // 1008: the server refuses this worker, and would refuse it again.
  socket.on('close', (code, reason) => {
    if (code === 1008) {
      console.error(`the server refuses this worker: ${reason}`);
      process.exitCode = 2;
    } else {
      setTimeout(connect, 5000 * Math.random());
    }
  });
}

connect();
