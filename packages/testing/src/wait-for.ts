import { inspect } from 'node:util';

export interface WaitOptions {
  /** A minute unless given: a machine may be busy, and only a failure lasts as long. */
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
  /** What is waited for, in the message of a failure. */
  readonly what?: string;
}

/**
 * Asks again and again until `condition` gives a truthy value, and returns it. One that throws is not met yet, so
 * assertions can be waited for: `waitFor(() => { expect(…)…; return true; })`.
 * @throws Error that tells what was waited for, how long, and the last value or failure seen
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const { timeoutMs = 60_000, intervalMs = 10 } = options;
  const startedAt = performance.now();
  for (let attempts = 1; ; attempts++) {
    let seen: string;
    let cause: unknown;
    try {
      const value = await condition();
      if (value) return value as Exclude<T, undefined | null | false>;
      seen = `last value ${inspect(value)}`;
    } catch (error) {
      cause = error;
      seen = `last failure: ${error instanceof Error ? error.message : inspect(error)}`;
    }
    const waitedMs = Math.round(performance.now() - startedAt);
    if (waitedMs >= timeoutMs) {
      const what = options.what ?? condition.toString().slice(0, 200);
      throw new Error(`Waited ${waitedMs} ms (${attempts} attempts) in vain for: ${what}\n${seen}`, { cause });
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}
