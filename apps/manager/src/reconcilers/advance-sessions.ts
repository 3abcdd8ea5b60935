import { priorityLostByGivingUp } from '@backend.ai/scheduler';
import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';

/**
 * Moves on what nobody else does: sessions that have to leave for others, those whose kernels have all ended so that they
 * can start anew, and those that were given up for now, with a lower priority.
 */
export class AdvanceSessions {
  readonly #transitions: SessionTransitions;
  readonly #changes: SessionChanges;

  constructor(transitions: SessionTransitions, changes: SessionChanges) {
    this.#transitions = transitions;
    this.#changes = changes;
  }

  async run(epoch: number): Promise<void> {
    const target = { kernelsEnded: true };
    const left = { from: ['PREEMPTED'], reason: 'preempted', epoch } as const;
    const steps = [
      { ...left, target: { preemption: 'terminate' }, to: 'TERMINATING' },
      { ...left, target: { preemption: 'reschedule' }, to: 'RESCHEDULING' },
      { target, from: ['RESTARTING'], to: 'PENDING', reason: 'restart-requested', epoch },
      { target, from: ['RESCHEDULING'], to: 'PENDING', reason: 'rescheduled', epoch },
      {
        target: {},
        from: ['DEPRIORITIZING'],
        to: 'PENDING',
        reason: 'deprioritized',
        lowerPriorityBy: priorityLostByGivingUp,
        epoch,
      },
    ] as const;
    for (const step of steps) this.#changes.announce(await this.#transitions.apply(step));
  }
}
