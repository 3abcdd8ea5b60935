import type { IdleChecker } from '@backend.ai/contract';
import { type Clock, parseRequestId, type StatusReason, servingStatuses } from '@backend.ai/core';
import { ensureRequestId } from '@backend.ai/telemetry';
import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { IdleJudgement, IdleService } from '../services/idle/idle-service.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';
import { eachItem } from './each-item.ts';

export interface EndIdleSessionsOptions {
  readonly idle: IdleService;
  readonly transitions: SessionTransitions;
  readonly changes: SessionChanges;
  readonly clock: Clock;
  /** Judging reads live values of every running session: less often than other loops look. */
  readonly everyMs: number;
}

const reasons: Readonly<Record<IdleChecker, StatusReason>> = {
  network_timeout: 'idle-timeout',
  session_lifetime: 'idle-session-lifetime',
  utilization: 'idle-utilization',
};

/** Ends running sessions that nobody uses, that use too little, or that have lived long enough. */
export class EndIdleSessions {
  readonly #options: EndIdleSessionsOptions;
  #judgedAt: number | undefined;

  constructor(options: EndIdleSessionsOptions) {
    this.#options = options;
  }

  async run(epoch: number): Promise<void> {
    const { idle, clock, everyMs } = this.#options;
    const now = clock.monotonic();
    if (this.#judgedAt !== undefined && now - this.#judgedAt < everyMs) return;
    this.#judgedAt = now;
    await eachItem(await idle.judgeAll(), (judgement) => this.#endIfExpired(judgement, epoch));
  }

  async #endIfExpired({ session, checks }: IdleJudgement, epoch: number): Promise<void> {
    const { transitions, changes } = this.#options;
    const expired = checks.find(({ verdict }) => verdict === 'expired');
    if (!expired) return;
    const { checker, explanation, evidence } = expired;
    await ensureRequestId(async () => {
      const changed = await transitions.apply({
        target: { sessionId: session.id },
        from: servingStatuses,
        to: 'TERMINATING',
        reason: reasons[checker],
        data: { checker, explanation, evidence },
        epoch,
      });
      if (changed.length > 0) changes.announce(changed);
    }, parseRequestId(session.requestId));
  }
}
