/** Where the tasks come from and how many run at once. */
export interface RemoteWorkerOptions {
  /** Whose tasks to take; `default` where nothing is said. */
  group?: string;
  /** What to show at the server, where authentication is on. */
  token?: string;
  /** Tasks to run at once; 1 where nothing is said. */
  concurrency?: number;
  /** Models that this worker serves. */
  models?: string[];
  /** What operators see it as. */
  name?: string;
  /** The constructor to connect with; needed on Node before 22 (`WebSocket` of the package `ws`). */
  WebSocket?: unknown;
  /** How long `stop` lets running tasks go on (ms); 30,000. */
  drainTimeoutMs?: number;
  /** How often a quiet server is pinged (ms); 15,000. One that stays quiet for as long again is left. */
  heartbeatMs?: number;
  /** Longest pause between attempts to connect (ms); 30,000. */
  reconnectMaxMs?: number;
  /** Largest answer (bytes); 16 MiB, as at the server. */
  maxMessageBytes?: number;
  /** Stop on SIGTERM and SIGINT; true in Node. */
  signals?: boolean;
  /** Takes what there is to log; the console where nothing is said, `null` for nothing. */
  log?: ((level: 'info' | 'warn', text: string) => void) | null;
  /** Sees each message as it goes over the wire. */
  onMessage?: (direction: 'sent' | 'received', message: Record<string, unknown>) => void;
  /** Hears how the connection is. */
  onState?: (state: 'connecting' | 'connected' | 'draining' | 'waiting' | 'stopped', detail: string) => void;
}

/** A task in hand. */
export interface RemoteTask<Data = any> {
  readonly id: string;
  /** What the submitter sent. */
  readonly payload: Record<string, any>;
  readonly model: string;
  readonly messages: any[];
  readonly data: Data;
  /** 1 for the first attempt. */
  readonly attempt: number;
  /** How long it may take, where somebody said. */
  readonly timeoutMs: number | null;
  /** The tasks that this one depends on, by id. */
  readonly parents: Record<string, { status: string; result: unknown; error: { code: string; message: string; retryable: boolean } | null }>;
  readonly userId: string | null;
  /** Aborted when the task was cancelled, timed out, or this worker ends. */
  readonly signal: AbortSignal;
  readonly cancelled: boolean;
  /** Report progress, 0 to 100. Of reports in quick succession the newest one is sent. */
  progress(percentage: number, message?: string, options?: { stage?: string }): void;
  /** Add a line to the task's log. Of lines that come faster than the connection takes them, some are left out. */
  log(message: string, options?: { level?: 'debug' | 'info' | 'warning' | 'error' | 'critical'; data?: object }): void;
  /** Send a part of the result; resolves when there is room for the next. */
  delta(content: string): Promise<void>;
}

export type Handler = (task: RemoteTask) => unknown;

/** Fails a task with a code; retried by the task's own policy. */
export class TaskError extends Error {
  constructor(message?: string, options?: { code?: string });
  code: string;
  retryable: boolean;
}

/** Fails a task for good: no further attempts. */
export class SkipRetry extends TaskError {}

/**
 * Somebody else's service refuses the work for now: the attempt does not count. For `retryAfterS` seconds no task of the
 * same key starts in the group; without a key, no task of the group at all.
 */
export class RateLimited extends TaskError {
  constructor(message: string | undefined, options: { retryAfterS: number });
  readonly retryAfterS: number;
}

/** The server does not want this worker: token, group or address is wrong. */
export class WorkerRefusedError extends Error {}

/** Connects, takes tasks, connects again. */
export class RemoteWorker {
  constructor(url: string, handler: Handler, options?: RemoteWorkerOptions);
  /** Where it connects to. */
  readonly url: string;
  /** What the server calls it; empty while it is not connected. */
  readonly workerId: string;
  /** How many tasks run. */
  readonly running: number;
  /** Work until `stop`; rejects with `WorkerRefusedError`. */
  run(): Promise<void>;
  /** Take no more tasks, finish those that run, and end; resolves when it has ended. */
  stop(): Promise<void>;
}
