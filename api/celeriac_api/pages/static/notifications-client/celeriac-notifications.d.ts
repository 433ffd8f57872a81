export interface TaskStatus {
  type: 'task_status';
  id: string;
  task_id: string;
  status: 'pending' | 'running' | 'progress' | 'completed' | 'failed' | 'cancelled';
  progress: number;
  message: string;
  step: string;
  timestamp: string;
  result: unknown;
  error: string | null;
  error_type?: string;
  /** The result is too long for a message: ask for the task's status over HTTP. */
  result_left_out?: boolean;
  /** Tells how the task is, and not what has just happened. */
  snapshot?: boolean;
}

export interface Options {
  /** The user's token, or what fetches one: it is called for each connection. */
  token: string | (() => string | Promise<string>);
  /** Where to go on, from an earlier client's `lastId`. */
  lastId?: string;
  /** For runtimes without one of their own. */
  WebSocket?: unknown;
  /** Longest pause before the next attempt to connect (default 30000). */
  reconnectMaxMs?: number;
  /** Time between two signs of life (default 25000), and how long the answer may take (default 10000). */
  heartbeatMs?: number;
  heartbeatTimeoutMs?: number;
}

export type State = 'connecting' | 'open' | 'waiting' | 'closed';

export class NotificationClient {
  constructor(url: string, userId: number | string, options: Options);
  /** Place of the last message: keep it to go on from there later. */
  readonly lastId: string | null;
  readonly state: State;
  on(event: 'active', listener: (tasks: TaskStatus[], count: number) => void): () => void;
  on(event: 'task', listener: (task: TaskStatus) => void): () => void;
  on(event: 'snapshot', listener: () => void): () => void;
  on(event: 'state', listener: (state: State) => void): () => void;
  on(event: 'error', listener: (error: { code: string; message: string; task_id?: string }) => void): () => void;
  connect(): void;
  /** Follow a single task of another user, where the token allows it. Own tasks are followed anyway. */
  subscribe(taskId: string): void;
  unsubscribe(taskId: string): void;
  close(): void;
}

export function pauseMs(failures: number, longestMs: number, random: number): number;
