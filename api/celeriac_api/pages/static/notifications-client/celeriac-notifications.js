/**
 * A user's own Celeriac tasks, live. One ES module without dependencies, for browsers and Node.
 *
 * The token is sent in the first message, so that it appears in no address and no log. Every message has an id. After a
 * lost connection the client goes on after the last one. If the server cannot, it says so and sends a snapshot.
 */

/** The server refused the credential, or the client misbehaved: connecting again in the same way does not help. */
const REFUSED = 1008;

/** Exponential backoff with full jitter; `failures` counts attempts in a row without a connection, `random` is in [0, 1). */
export function pauseMs(failures, longestMs, random) {
  return random * Math.min(500 * 2 ** Math.min(failures, 30), longestMs);
}

export class NotificationClient {
  #address;
  #options;
  #listeners = new Map();
  #socket = null;
  #state = 'closed';
  #failures = 0;
  #refusals = 0;
  #timer = null;
  #heartbeat = null;
  /** Single tasks, each with the id of its last event. */
  #single = new Map();
  /** Counts attempts, so that late messages of an earlier one are ignored. */
  #attempt = 0;

  constructor(url, userId, options) {
    this.#options = { reconnectMaxMs: 30000, heartbeatMs: 25000, heartbeatTimeoutMs: 10000, ...options };
    this.#options.WebSocket ??= globalThis.WebSocket;
    if (!this.#options.WebSocket) throw new TypeError('this JavaScript has no WebSocket: pass one, for example that of the package ws');
    if (!this.#options.token) throw new TypeError('pass a token, or a function that fetches one');
    const base = new URL(url, globalThis.location?.href);
    base.protocol = base.protocol.replace('http', 'ws');
    base.pathname = `${base.pathname.replace(/\/$/, '')}/api/task/ws/task/${encodeURIComponent(userId)}`;
    base.search = '?auth=message';
    this.#address = base.href;
    this.lastId = this.#options.lastId ?? null;
  }

  get state() {
    return this.#state;
  }

  /** Call `listener` on an event; returns a function that ends this. */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  connect() {
    if (this.#state !== 'closed') return;
    this.#failures = this.#refusals = 0;
    void this.#open();
  }

  subscribe(taskId) {
    if (!this.#single.has(taskId)) this.#single.set(taskId, null);
    this.#send({ type: 'subscribe', task_id: taskId });
  }

  unsubscribe(taskId) {
    if (this.#single.delete(taskId)) this.#send({ type: 'unsubscribe', task_id: taskId });
  }

  close() {
    this.#drop();
    this.#become('closed');
  }

  async #open() {
    this.#become('connecting');
    const attempt = ++this.#attempt;
    const { token, WebSocket } = this.#options;
    let shown;
    try {
      shown = typeof token === 'function' ? await token() : token;
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#emit('error', { code: 'no_token', message: String(error?.message ?? error) });
      this.#comeBack();
      return;
    }
    if (attempt !== this.#attempt) return;
    const socket = new WebSocket(this.#address);
    this.#socket = socket;
    socket.onopen = () => {
      const first = { type: 'auth', token: shown };
      if (this.lastId !== null) first.last_event_id = this.lastId;
      socket.send(JSON.stringify(first));
      this.#beat();
    };
    socket.onmessage = ({ data }) => {
      if (attempt === this.#attempt) this.#take(data);
    };
    // `close` reports it as well. Without a listener some runtimes end the program.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => {
      if (attempt === this.#attempt) this.#closed(code, reason);
    };
  }

  #take(data) {
    this.#beat();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    switch (message.type) {
      case 'connected':
        this.#failures = this.#refusals = 0;
        this.#become('open');
        if (message.recovered === false) this.#emit('snapshot');
        for (const [taskId, seen] of this.#single) {
          this.#send({ type: 'subscribe', task_id: taskId, ...(seen && { last_event_id: seen }) });
        }
        break;
      case 'active_tasks':
        this.#emit('active', message.tasks, message.count);
        break;
      case 'task_status':
        if (message.task_event_id && this.#single.has(message.task_id)) {
          this.#single.set(message.task_id, message.task_event_id);
        }
        this.#emit('task', message);
        break;
      case 'error':
        this.#emit('error', message);
        break;
    }
    // After the listeners: a client that stops in one of them gets this message again later.
    if (message.id) this.lastId = message.id;
  }

  #closed(code, reason) {
    const wasOpen = this.#state === 'open';
    this.#drop();
    if (code === REFUSED && !wasOpen && ++this.#refusals >= 2) {
      // Refused twice in a row, also with a token that the function fetched again.
      this.#emit('error', { code: 'refused', message: reason || 'the server refused the token' });
      this.#become('closed');
      return;
    }
    this.#comeBack();
  }

  #comeBack() {
    this.#become('waiting');
    const pause = pauseMs(this.#failures++, this.#options.reconnectMaxMs, Math.random());
    this.#timer = setTimeout(() => void this.#open(), pause);
  }

  /** A message arrived: send a ping after a quiet while, and give up a dead connection. */
  #beat() {
    clearTimeout(this.#heartbeat);
    const attempt = this.#attempt;
    this.#heartbeat = setTimeout(() => {
      this.#send({ type: 'ping' });
      this.#heartbeat = setTimeout(() => {
        if (attempt === this.#attempt) this.#closed(1006, 'no answer');
      }, this.#options.heartbeatTimeoutMs);
    }, this.#options.heartbeatMs);
  }

  #send(message) {
    if (this.#state === 'open' && this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  #drop() {
    this.#attempt += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#heartbeat);
    const socket = this.#socket;
    this.#socket = null;
    try {
      socket?.close();
    } catch {
      // The connection never opened.
    }
  }

  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#emit('state', state);
  }

  #emit(event, ...values) {
    for (const listener of this.#listeners.get(event) ?? []) listener(...values);
  }
}
