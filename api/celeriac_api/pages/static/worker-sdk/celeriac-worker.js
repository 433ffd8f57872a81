/**
 * A remote worker for Celeriac. It connects, takes tasks of its group, answers them, and reconnects.
 * One ES module without dependencies, for Node 20 and later and for browsers. Types: celeriac-worker.d.ts.
 */

// Close codes that say what to do next. After every other close the worker just reconnects.
const NORMAL = 1000;
const RESTARTING = [1001, 1012];
const REFUSED = 1008;
const TRY_LATER = 1013;
/** The close code for a silent server. Browsers allow 1000 and 3000 to 4999. */
const SILENT = 4000;
/** How long a server may take to answer that it knows that the worker leaves (ms). */
const ANSWER_MS = 5000;

/** Statuses of the handshake that a later attempt does not change. Only the package `ws` reports them. */
const FINAL_ANSWERS = /\b(400|401|403|404|405|426)\b/;

/** The shortest time between two reports of one task (ms). The last report is always sent. */
const REPORT_INTERVAL_MS = 50;
/** The levels of a line of a task's log, the least severe first. */
const LEVELS = ['debug', 'info', 'warning', 'error', 'critical'];
/** With more unsent bytes, `delta` waits and log lines are left out. */
const ENOUGH_UNSENT = 1024 ** 2;
/** The longest stack of an error in a task's log (characters). */
const MAX_TRACE = 6000;
/** How many results that were finished without a connection are kept, and how many characters of them. */
const KEPT = 100;
const KEPT_LENGTH = 64 * 1024 ** 2;

/** Fails a task with a code. The task is retried by its own policy. */
export class TaskError extends Error {
  name = 'TaskError';
  retryable = true;

  constructor(message = '', { code = 'task_failed' } = {}) {
    super(message);
    this.code = code;
  }
}

/** Fails a task for good: no further attempts. */
export class SkipRetry extends TaskError {
  name = 'SkipRetry';
  retryable = false;
}

/**
 * Somebody else's service refuses the work for now. The attempt does not count, and no task of the same key starts in the
 * group for `retryAfterS` seconds; without a key, no task of the group at all.
 */
export class RateLimited extends TaskError {
  name = 'RateLimited';

  constructor(message = '', { retryAfterS } = {}) {
    if (!(retryAfterS >= 0 && retryAfterS < Infinity)) {
      throw new TypeError(`retryAfterS must be a number of seconds, not ${retryAfterS}`);
    }
    super(message || `the service says that it takes more after ${retryAfterS} s`, { code: 'rate_limited' });
    this.retryAfterS = Number(retryAfterS);
  }
}

/** The server refuses this worker: the token, the group or the address is wrong. */
export class WorkerRefusedError extends Error {
  name = 'WorkerRefusedError';
}

/**
 * The pause before the next attempt to connect: exponential backoff with full jitter.
 * `failures` counts attempts in a row without a connection; `random` is in [0, 1).
 */
export function pauseMs(failures, code, longestMs, random) {
  const base = code === TRY_LATER ? 5000 : 500;
  const ceiling = RESTARTING.includes(code) ? Math.min(1000, longestMs) : longestMs;
  return random * Math.min(base * 2 ** Math.min(failures, 30), ceiling);
}

/** A task as its handler sees it. */
class RemoteTask {
  #send;
  #aborting = new AbortController();
  #latest = null;
  #reportedAt = -Infinity;
  #timer = null;

  constructor(message, send) {
    const payload = message.payload;
    this.id = message.taskId;
    this.payload = payload !== null && typeof payload === 'object' ? payload : {};
    this.model = this.payload.model ?? 'default';
    this.messages = this.payload.messages ?? [];
    this.data = this.payload.data;
    this.attempt = message.attempt ?? 1;
    this.timeoutMs = message.timeoutMs ?? null;
    this.parents = message.parents ?? {};
    this.userId = message.userId ?? null;
    this.#send = send;
  }

  get signal() {
    return this.#aborting.signal;
  }

  get cancelled() {
    return this.#aborting.signal.aborted;
  }

  progress(percentage, message = '', { stage = '' } = {}) {
    const bounded = Math.min(Math.max(Number(percentage), 0), 100);
    if (Number.isNaN(bounded)) throw new TypeError(`a percentage must be a number from 0 to 100, not ${percentage}`);
    this.#latest = { percentage: bounded, message: String(message), stage: String(stage) };
    const due = this.#reportedAt + REPORT_INTERVAL_MS - performance.now();
    if (due <= 0) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), due);
  }

  log(message, { level = 'info', data } = {}) {
    if (!LEVELS.includes(level)) throw new TypeError(`a level must be one of ${LEVELS.join(', ')}, not ${level}`);
    this.#send({ type: 'log', taskId: this.id, level, message: String(message), ...(data && { data }) });
  }

  async delta(content) {
    if (typeof content !== 'string') throw new TypeError(`a delta must be a string, not ${typeof content}`);
    await this.#send({ type: 'delta', taskId: this.id, content }, true);
  }

  /** Abort the signal. Called by the worker. */
  stop(reason) {
    this.#aborting.abort(reason);
  }

  /** Send the report that waits. Called by the worker, before the answer. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#latest === null) return;
    const { percentage, message, stage } = this.#latest;
    this.#latest = null;
    this.#reportedAt = performance.now();
    this.#send({
      type: 'progress',
      taskId: this.id,
      percentage,
      ...(message && { message }),
      ...(stage && { stage }),
    });
  }
}

/** One connection; `ended` resolves with the close code and reason. */
class Connection {
  workerId = '';
  draining = false;
  /** Pings that were sent, and their answers: everything that was sent before an answered ping has arrived. */
  pings = 0;
  pongs = 0;

  /** The error of the socket before it closed. */
  #failure = '';

  constructor(socket, heard) {
    this.socket = socket;
    this.ended = new Promise((resolve) => {
      socket.addEventListener('close', ({ code, reason }) => resolve({ code, reason: reason || this.#failure }));
    });
    socket.addEventListener('error', ({ message }) => {
      this.#failure = message ?? '';
    });
    socket.addEventListener('message', ({ data }) => heard(this, data));
  }

  get open() {
    return this.socket.readyState === 1;
  }

  /** Send a text if the connection is open; returns whether it was. */
  send(text) {
    if (!this.open) return false;
    this.socket.send(text);
    return true;
  }

  get full() {
    return this.socket.bufferedAmount > ENOUGH_UNSENT;
  }

  /** Wait until little remains unsent. */
  async room() {
    while (this.open && this.full) await sleep(10);
  }

  close(code, reason) {
    this.socket.close(code, reason);
  }
}

/** Most ended tasks that have a line of their own per second. */
const MOST_SHOWN = 200;

/** Return in one line how a task ended: time, group, type, the first characters of its id, and the end. */
function endOf(group, task, answer) {
  const time = new Date().toTimeString().slice(0, 8);
  const id = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(task.id) ? task.id.slice(0, 8) : task.id;
  let said = `✓ ${answer.duration} ms`;
  if (answer.type !== 'task_complete') {
    const error = String(answer.error).replace(/[\p{C}\s]+/gu, ' ').slice(0, 200);
    said = task.cancelled
      ? `✗ cancelled after ${answer.duration} ms`
      : `✗ ${error} — ${answer.retryable === false ? 'failed' : 'may run again'}`;
  }
  return `${time} ${group} remote ${id} ${said}`;
}

/** Connects, takes tasks, and reconnects. */
export class RemoteWorker {
  #handler;
  #options;
  #connection = null;
  #announced = 0;
  #heardAt = 0;
  /**
   * The running tasks, by id: { task, connection, following }. The connection is null while it is lost. `following` is
   * the task if it was given again before its cancelled run stopped.
   */
  #executions = new Map();
  /** Results that may not have arrived, by task id: { answer, length }. */
  #kept = new Map();
  #shown = { since: 0, ends: 0, more: 0 };
  #stopping = new AbortController();
  #ended = null;
  #wakers = new Set();

  constructor(url, handler, options = {}) {
    if (typeof handler !== 'function') throw new TypeError('the second argument must be the function that runs a task');
    this.#handler = handler;
    this.#options = {
      group: 'default',
      concurrency: 1,
      models: [],
      drainTimeoutMs: 30_000,
      heartbeatMs: 15_000,
      reconnectMaxMs: 30_000,
      maxMessageBytes: 16 * 1024 ** 2,
      signals: globalThis.process?.versions?.node !== undefined,
      log: (level, text) => console[level](`celeriac-worker: ${text}`),
      ...options,
    };
    if (!Number.isInteger(this.#options.concurrency) || this.#options.concurrency < 1) {
      throw new RangeError(`concurrency must be a whole number above 0, not ${this.#options.concurrency}`);
    }
    this.url = gatewayUrl(url, this.#options.group);
  }

  get workerId() {
    return this.#connection?.workerId ?? '';
  }

  get running() {
    return this.#executions.size;
  }

  run() {
    this.#ended ??= this.#work();
    return this.#ended;
  }

  async stop() {
    this.#stopping.abort();
    this.#wake();
    await this.#ended?.catch(() => {});
  }

  // --- connections

  async #work() {
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (Socket === undefined) {
      throw new TypeError(
        "this JavaScript has no WebSocket: install the package 'ws' and pass { WebSocket: (await import('ws')).WebSocket }",
      );
    }
    const forget = this.#options.signals ? this.#followSignals() : () => {};
    let failures = 0;
    try {
      while (!this.#stopped) {
        const { code, reason, greeted } = await this.#connectAndServe(Socket);
        if (code === REFUSED || (!greeted && FINAL_ANSWERS.test(reason))) {
          throw new WorkerRefusedError(`the gateway at ${this.url} refuses this worker: ${reason || `closed with ${code}`}`);
        }
        failures = greeted ? 0 : failures + 1;
        if (this.#stopped) break;
        const pause = pauseMs(failures, code, this.#options.reconnectMaxMs, Math.random());
        this.#log('info', `disconnected (${code}${reason ? ` ${reason}` : ''}), connecting again in ${Math.round(pause)} ms`);
        this.#state('waiting', reason);
        await this.#pause(pause);
      }
    } finally {
      forget();
      for (const { task } of this.#executions.values()) task.stop('shutdown');
      this.#state('stopped', '');
    }
  }

  get #stopped() {
    return this.#stopping.signal.aborted;
  }

  async #connectAndServe(Socket) {
    this.#state('connecting', this.url);
    const { token, heartbeatMs } = this.#options;
    // A browser cannot set headers, so the token is sent as a subprotocol, which logs do not show.
    const socket = token ? new Socket(this.url, ['celeriac', `bearer.${token}`]) : new Socket(this.url);
    const connection = new Connection(socket, (from, data) => this.#heard(from, data));
    this.#heardAt = performance.now();
    const heartbeat = setInterval(() => this.#checkPulse(connection), heartbeatMs);
    const stop = () => this.#drain(connection);
    this.#stopping.signal.addEventListener('abort', stop, { once: true });
    if (this.#stopped) stop();
    const { code, reason } = await Promise.race([connection.ended, this.#givenUp(connection)]);
    clearInterval(heartbeat);
    this.#stopping.signal.removeEventListener('abort', stop);
    this.#lost(connection);
    return { code, reason, greeted: connection.workerId !== '' };
  }

  /** Resolves when a connection is given up that does not even answer the close. */
  #givenUp(connection) {
    return new Promise((resolve) => {
      connection.giveUp = (reason) => resolve({ code: SILENT, reason });
    });
  }

  #checkPulse(connection) {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs > 2 * this.#options.heartbeatMs) {
      connection.close(SILENT, 'the server is silent');
      connection.giveUp('the server is silent');
    } else if (connection.workerId !== '' && silentMs > this.#options.heartbeatMs * 0.9) {
      this.#ping(connection);
    }
  }

  #ping(connection) {
    connection.pings += 1;
    this.#say(connection, { type: 'ping' });
  }

  async #drain(connection) {
    connection.draining = true;
    if (connection.workerId === '') {
      connection.close(NORMAL);
      connection.giveUp('stopped');
      return;
    }
    this.#state('draining', '');
    this.#say(connection, { type: 'drain' });
    const until = performance.now() + this.#options.drainTimeoutMs;
    // A task may have been sent before the server knew that. Only after its answer is it certain that nothing runs.
    this.#ping(connection);
    const owed = connection.pings;
    const answeredBy = Math.min(until, performance.now() + ANSWER_MS);
    while (connection.pongs < owed && connection.open && performance.now() < answeredBy) {
      await this.#pause(answeredBy - performance.now());
    }
    while (this.running > 0 && connection.open && performance.now() < until) {
      await this.#pause(until - performance.now());
    }
    if (this.running > 0) this.#log('warn', `${this.running} task(s) did not finish in time and are given back`);
    connection.close(NORMAL);
    setTimeout(() => connection.giveUp('stopped'), 2000).unref?.();
  }

  #lost(connection) {
    let orphans = 0;
    for (const execution of this.#executions.values()) {
      if (execution.connection === connection) {
        execution.connection = null;
        orphans += 1;
      }
    }
    if (this.#connection === connection) this.#connection = null;
    if (orphans > 0 && !this.#stopped) this.#log('warn', `the connection broke; ${orphans} running task(s) go on`);
    this.#wake();
  }

  // --- messages

  #heard(connection, data) {
    this.#heardAt = performance.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.#log('warn', 'the server sent something that is not a message');
      return;
    }
    if (message === null || typeof message !== 'object') return;
    this.#options.onMessage?.('received', message);
    switch (message.type) {
      case 'connected':
        this.#connected(connection, message);
        break;
      case 'task':
        if (typeof message.taskId === 'string') this.#given(connection, message);
        break;
      case 'cancel':
        this.#askedToStop(message);
        break;
      case 'ping':
        this.#say(connection, { type: 'pong' });
        break;
      case 'pong':
        connection.pongs += 1;
        this.#wake();
        break;
      case 'drain':
        connection.draining = true;
        this.#state('draining', message.message ?? '');
        this.#leaveWhenDone(connection);
        break;
      case 'error':
        this.#log('warn', `the server says: ${message.message}`);
        break;
    }
  }

  #connected(connection, { workerId }) {
    connection.workerId = workerId ?? '?';
    this.#connection = connection;
    this.#announced = 0;
    this.#log('info', `connected as ${workerId}`);
    this.#state('connected', workerId);
    for (const { answer } of this.#kept.values()) this.#say(connection, answer);
    this.#announce();
  }

  #given(connection, message) {
    const id = message.taskId;
    const running = this.#executions.get(id);
    const kept = this.#kept.get(id)?.answer;
    this.#kept.delete(id);
    if (running?.task.cancelled) {
      // The task was taken back and has not stopped yet. It starts again when it has; the answer of the old run is dropped.
      running.connection = null;
      running.following = { connection, message };
    } else if (running !== undefined) {
      // The task outlived its connection, and belongs to this worker again.
      running.connection = connection;
    } else if (kept?.type === 'task_complete') {
      this.#say(connection, kept);
    } else {
      this.#execute(connection, message);
    }
  }

  #askedToStop({ taskId, reason }) {
    const execution = this.#executions.get(taskId);
    if (execution === undefined) return;
    const { following } = execution;
    if (following !== null) {
      execution.following = null;
      this.#say(following.connection, { type: 'task_error', taskId, error: 'cancelled', code: 'cancelled', retryable: false });
    }
    execution.task.stop(reason ?? 'cancel');
  }

  /** Ask for as many tasks as fit beside those that go on without their connection. */
  #announce() {
    const connection = this.#connection;
    if (connection === null || connection.draining || this.#stopped) return;
    const { concurrency, models, name } = this.#options;
    const orphans = [...this.#executions.values()].filter((execution) => execution.connection === null).length;
    const room = concurrency - orphans;
    if (room <= this.#announced) return;
    this.#announced = room;
    this.#say(connection, {
      type: 'ready',
      ...(room > 1 && { concurrency: room }),
      ...(models.length > 0 && { models }),
      ...(name && { name }),
    });
  }

  #leaveWhenDone(connection) {
    if (!connection.draining || this.#stopped) return;
    for (const execution of this.#executions.values()) if (execution.connection === connection) return;
    connection.close(NORMAL);
  }

  #say(connection, message) {
    const sent = connection.send(JSON.stringify(message));
    if (sent) this.#options.onMessage?.('sent', message);
    return sent;
  }

  /** Return whether a log line may be sent; the number of those that may not is reported later. */
  #roomForLine(execution, connection, taskId) {
    if (connection.full) {
      execution.leftOut += 1;
      return false;
    }
    if (execution.leftOut > 0) {
      const message = `${execution.leftOut} lines were left out: they came faster than they could be sent`;
      execution.leftOut = 0;
      this.#say(connection, { type: 'log', taskId, level: 'warning', message });
    }
    return true;
  }

  // --- tasks

  async #execute(connection, message) {
    const began = performance.now();
    const execution = { task: null, connection, following: null, leftOut: 0 };
    execution.task = new RemoteTask(message, async (report, wait = false) => {
      const to = execution.connection;
      if (to === null || !this.#executions.has(report.taskId)) return;
      if (report.type === 'log' && !this.#roomForLine(execution, to, report.taskId)) return;
      this.#say(to, report);
      if (wait) await to.room();
    });
    const { task } = execution;
    this.#executions.set(task.id, execution);
    let answer;
    try {
      const result = (await this.#handler(task)) ?? null;
      answer = this.#checked({ type: 'task_complete', taskId: task.id, result, duration: since(began) });
    } catch (error) {
      answer = failure(task, error, since(began));
      // The server writes it into the task's log that it was told to come back later.
      const failed = !task.cancelled && !(error instanceof RateLimited);
      if (failed) task.log('attempt failed', { level: 'warning', data: { error: answer.error, ...trace(error) } });
    }
    task.flush();
    this.#executions.delete(task.id);
    this.#showEnd(task, answer);
    const { following } = execution;
    if (following === null) this.#deliver(execution, answer);
    else if (following.connection === this.#connection) this.#given(following.connection, following.message);
    this.#announce();
    if (this.#connection !== null) this.#leaveWhenDone(this.#connection);
    this.#wake();
  }

  /** Show how a task ended in one line; the ends above a limit per second are summed up. */
  #showEnd(task, answer) {
    const now = performance.now();
    if (now - this.#shown.since >= 1000) {
      if (this.#shown.more > 0) this.#log('info', `+${this.#shown.more} more in a second`);
      this.#shown = { since: now, ends: 0, more: 0 };
    }
    if (this.#shown.ends >= MOST_SHOWN) {
      this.#shown.more += 1;
      return;
    }
    this.#shown.ends += 1;
    this.#log('info', endOf(this.#options.group, task, answer));
  }

  /** Return the message, or throw an error that says why it cannot be sent. */
  #checked(message) {
    if (['function', 'symbol'].includes(typeof message.result)) {
      throw new SkipRetry(`the result is a ${typeof message.result}, which JSON cannot express`, { code: 'bad_result' });
    }
    let text;
    try {
      text = JSON.stringify(message);
    } catch (error) {
      throw new SkipRetry(`the result cannot be written as JSON: ${error.message}`, { code: 'bad_result' });
    }
    const limit = this.#options.maxMessageBytes;
    const bytes = text.length * 3 > limit ? new TextEncoder().encode(text).length : 0;
    if (bytes > limit) {
      throw new SkipRetry(
        `the result is a message of ${bytes} bytes, above the limit of ${limit}: return a link instead`,
        { code: 'result_too_large' },
      );
    }
    return message;
  }

  #deliver({ task, connection }, answer) {
    if (connection !== null && this.#say(connection, answer)) return;
    if (task.cancelled) return;
    // The connection broke, so the task may not belong to this worker any more. The server decides that.
    if (this.#connection !== null) this.#say(this.#connection, answer);
    this.#kept.set(task.id, { answer, length: JSON.stringify(answer).length });
    while (this.#kept.size > KEPT || sum(this.#kept.values()) > KEPT_LENGTH) {
      const [oldest] = this.#kept.keys();
      this.#kept.delete(oldest);
      this.#log('warn', `the result of task ${oldest} is dropped: too many wait for a connection`);
    }
  }

  // --- steps

  #followSignals() {
    const { process } = globalThis;
    const stop = (signal) => {
      this.#log('info', `${signal}: stopping after the running tasks; send it again to stop at once`);
      this.stop();
    };
    // Once, so that a second signal ends the process.
    const forget = () => ['SIGTERM', 'SIGINT'].forEach((signal) => process.off(signal, stop));
    ['SIGTERM', 'SIGINT'].forEach((signal) => process.once(signal, stop));
    return forget;
  }

  /** Wait, but not longer than until something ended or the worker is to stop. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(done, Math.max(ms, 0));
      const wakers = this.#wakers;
      wakers.add(done);
      function done() {
        clearTimeout(timer);
        wakers.delete(done);
        resolve();
      }
    });
  }

  #wake() {
    for (const done of [...this.#wakers]) done();
  }

  #log(level, text) {
    this.#options.log?.(level, text);
  }

  #state(state, detail) {
    this.#options.onState?.(state, detail);
  }
}

function gatewayUrl(url, group) {
  const found = new URL(url);
  found.protocol = { 'http:': 'ws:', 'https:': 'wss:' }[found.protocol] ?? found.protocol;
  if (found.protocol !== 'ws:' && found.protocol !== 'wss:') {
    throw new TypeError(`the address of the API must be an http or https URL, not ${url}`);
  }
  found.pathname = `${found.pathname.replace(/\/+$/, '').replace(/\/ws$/, '')}/ws`;
  found.search = `?group=${encodeURIComponent(group)}`;
  found.hash = '';
  return found.href;
}

function failure(task, error, duration) {
  const answer = { type: 'task_error', taskId: task.id, duration };
  if (task.cancelled) return { ...answer, error: 'cancelled', code: 'cancelled', retryable: false };
  if (error instanceof TaskError) {
    return {
      ...answer,
      error: error.message || error.name,
      code: error.code,
      ...(error instanceof RateLimited && { retry_after_s: error.retryAfterS }),
      ...(!error.retryable && { retryable: false }),
    };
  }
  return { ...answer, error: error instanceof Error ? String(error) : `the handler threw ${String(error)}` };
}

/** Return where an error came from, unless it was thrown on purpose. */
function trace(error) {
  const stack = error instanceof Error && !(error instanceof TaskError) ? error.stack : null;
  return stack ? { traceback: stack.slice(0, MAX_TRACE) } : {};
}

function sum(kept) {
  let total = 0;
  for (const { length } of kept) total += length;
  return total;
}

function since(began) {
  return Math.round(performance.now() - began);
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
