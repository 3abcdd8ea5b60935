import { type SessionStatus, transientDeadlines } from '@backend.ai/core';
import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';

const startsAnew: ReadonlySet<string> = new Set<SessionStatus>(['RESTARTING', 'RESCHEDULING']);

/** What stays in a transient state beyond its deadline takes the next step that the table of states names. */
export class SweepDeadlines {
  readonly #transitions: SessionTransitions;
  readonly #changes: SessionChanges;
  readonly #deadlinesMs: Readonly<Partial<Record<SessionStatus, number>>>;

  constructor(
    transitions: SessionTransitions,
    changes: SessionChanges,
    deadlinesMs: Readonly<Partial<Record<SessionStatus, number>>>,
  ) {
    this.#transitions = transitions;
    this.#changes = changes;
    this.#deadlinesMs = deadlinesMs;
  }

  async run(epoch: number): Promise<void> {
    const waited = {
      target: { waitedTooLong: true },
      from: ['PENDING'],
      to: 'CANCELLED',
      reason: 'pending-timeout',
    } as const;
    this.#changes.announce(await this.#transitions.apply({ ...waited, epoch }));
    for (const [status, deadline] of Object.entries(transientDeadlines)) {
      const from = [status as SessionStatus];
      const olderThanMs = this.#deadlinesMs[status as SessionStatus] ?? deadline.afterMs;
      const { next: to, reason } = deadline;
      const data = { after: status, deadlineMs: olderThanMs };
      // What only waits to be put back into the queue has done its part.
      const target = startsAnew.has(status) ? { olderThanMs, kernelsEnded: false } : { olderThanMs };
      this.#changes.announce(await this.#transitions.apply({ target, from, to, reason, data, epoch }));
    }
  }
}
