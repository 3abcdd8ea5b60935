import { AppError, type Clock, hasCode, maskUrls, systemClock } from '@backend.ai/core';

/** Something a component cannot work without. */
export interface Dependency {
  /** As people call it: `PostgreSQL`. */
  readonly name: string;
  /**
   * Asks it something cheap. @returns what there is to know of it: `16.4, 12 connections`
   * @throws what keeps it from working; the message is shown
   */
  check(signal: AbortSignal): Promise<string>;
  /** The next step when it does not answer in time. */
  readonly ifSilent?: string | undefined;
}

export interface DependencyHealth {
  readonly name: string;
  readonly healthy: boolean;
  readonly latencyMs: number;
  /** What there is to know of it, or why it does not work. */
  readonly detail: string;
  /** What to do about it; null when all is well or nobody knows. */
  readonly hint: string | null;
}

export interface CheckOptions {
  /** All checks together may take this long, in milliseconds. */
  readonly deadlineMs: number;
  readonly clock?: Clock | undefined;
}

/** Checks all at once. Never rejects: what does not answer in time is not healthy. */
export function checkDependencies(
  dependencies: readonly Dependency[],
  { deadlineMs, clock = systemClock }: CheckOptions,
): Promise<DependencyHealth[]> {
  return Promise.all(dependencies.map((dependency) => checkOne(dependency, deadlineMs, clock)));
}

async function checkOne(
  { name, check, ifSilent }: Dependency,
  deadlineMs: number,
  clock: Clock,
): Promise<DependencyHealth> {
  const begun = clock.monotonic();
  const latencyMs = (): number => Math.round((clock.monotonic() - begun) * 10) / 10;
  const abort = new AbortController();
  let cancel: (() => void) | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    cancel = clock.setTimer(deadlineMs, () => {
      const error = new AppError('deadline-exceeded', `no answer within ${deadlineMs} ms`);
      reject(error);
      abort.abort(error);
    });
  });
  try {
    const detail = await Promise.race([Promise.resolve(abort.signal).then(check), late]);
    return { name, healthy: true, latencyMs: latencyMs(), detail, hint: null };
  } catch (thrown) {
    const detail = maskUrls(thrown instanceof Error ? reasonOf(thrown) : String(thrown));
    return {
      name,
      healthy: false,
      latencyMs: latencyMs(),
      detail,
      // Nothing was asked for whose outcome could matter.
      hint: (hasCode(thrown, 'deadline-exceeded') ? ifSilent : thrown instanceof AppError && thrown.hint) || null,
    };
  } finally {
    cancel?.();
  }
}

/** `AggregateError` of a connection to several addresses has no message of its own. */
function reasonOf(error: Error): string {
  if (error.message) return error.message;
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  return first instanceof Error ? first.message : error.name;
}
