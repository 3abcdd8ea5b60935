import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { SessionRepository } from '../repositories/sessions.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';
import { eachItem } from './each-item.ts';

/** What waits for a session that has ended without success would wait for ever: it is cancelled, and says why. */
export class EndDependents {
  readonly #sessions: SessionRepository;
  readonly #transitions: SessionTransitions;
  readonly #changes: SessionChanges;

  constructor(sessions: SessionRepository, transitions: SessionTransitions, changes: SessionChanges) {
    this.#sessions = sessions;
    this.#transitions = transitions;
    this.#changes = changes;
  }

  async run(epoch: number): Promise<void> {
    await eachItem(await this.#sessions.failedDependents(), async ({ sessionId, failed }) => {
      const cancelled = await this.#transitions.apply({
        target: { sessionId },
        to: 'CANCELLED',
        reason: 'dependency-failed',
        data: { sessions: failed },
        epoch,
      });
      this.#changes.announce(cancelled);
    });
  }
}
