import { type Clock, delay, type StatusReason } from '@backend.ai/core';
import type { SessionRepository } from '../../repositories/sessions.ts';
import type { SessionChanges } from './session-changes.ts';
import type { SessionService } from './session-service.ts';

export interface EndAllSessionsParts {
  readonly sessions: SessionService;
  readonly rows: SessionRepository;
  readonly changes: SessionChanges;
  readonly clock: Clock;
}

/** Ends everything alive, also what begins meanwhile; answers how many sessions are still alive when the time is over. */
export async function endAllSessions(
  { sessions, rows, changes, clock }: EndAllSessionsParts,
  reason: StatusReason,
  timeoutMs: number,
): Promise<number> {
  const end = clock.monotonic() + timeoutMs;
  const woken = { wake: (): void => {} };
  const stop = changes.onChange(() => woken.wake());
  try {
    for (;;) {
      await sessions.endAll(reason);
      const { length } = await rows.liveIds();
      const left = end - clock.monotonic();
      if (length === 0 || left <= 0) return length;
      const changed = new AbortController();
      woken.wake = () => changed.abort();
      await delay(clock, Math.min(left, 500), changed.signal);
    }
  } finally {
    stop();
  }
}
