export interface BackoffOptions {
  /** First wait in milliseconds. */
  readonly initialMs: number;
  readonly maxMs: number;
  /** A number in [0, 1). */
  readonly random?: () => number;
}

/** Exponential backoff with full jitter above half: attempt 0 waits between initial/2 and initial. */
export function backoffMs(attempt: number, options: BackoffOptions): number {
  const ceiling = Math.min(options.maxMs, options.initialMs * 2 ** Math.min(attempt, 30));
  return ceiling / 2 + ((options.random ?? Math.random)() * ceiling) / 2;
}
