export interface WindowCount {
  /** What was counted in the present window, this increment included. */
  readonly count: number;
  /** Until the window ends and counting starts anew. */
  readonly resetInMs: number;
}

/** Short-lived facts that may be lost with the process that keeps them: presence, statistics, logins, rate limits. */
export interface LiveValues {
  get(key: string): Promise<string | null>;
  /** Without `ttlMs` the value stays until deleted. */
  set(key: string, value: string, ttlMs?: number): Promise<void>;
  /** Sets unless there is a value; tells whether it did. For what may happen once: tokens, nonces. */
  setIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean>;
  /** Gives a present key a new time to live; false when there is none. */
  expire(key: string, ttlMs: number): Promise<boolean>;
  delete(key: string): Promise<boolean>;
  /** Counts `by` more, 1 unless given, in a window that begins with its first increment. For rate limits. */
  increment(key: string, windowMs: number, by?: number): Promise<WindowCount>;
  /** `member` counts as present in `set` for `ttlMs` from now. */
  markPresent(set: string, member: string, ttlMs: number): Promise<void>;
  markAbsent(set: string, member: string): Promise<void>;
  /** Members present now, in alphabetical order. */
  present(set: string): Promise<string[]>;
  close(): Promise<void>;
}
