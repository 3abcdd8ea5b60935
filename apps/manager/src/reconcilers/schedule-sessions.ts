import type { Clock } from '@backend.ai/core';
import { type Plan, schedule, type WaitingReason } from '@backend.ai/scheduler';
import type { QuotaRepository } from '../repositories/quotas.ts';
import type { SessionTransitions, StartableKernel } from '../repositories/session-transitions.ts';
import type { SessionRepository } from '../repositories/sessions.ts';
import type { SchedulingMemory } from '../scheduling/scheduling-memory.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';

export interface ScheduleSessionsOptions {
  readonly memory: SchedulingMemory;
  readonly transitions: SessionTransitions;
  readonly sessions: SessionRepository;
  /** Says why a placement was refused that went beyond limits. */
  readonly quotas: QuotaRepository;
  readonly changes: SessionChanges;
  readonly clock: Clock;
  /** Orders the kernels of a session that was placed, in the background. */
  readonly begin: (kernels: readonly StartableKernel[], epoch: number) => void;
  /** Asks for another pass, under a request id of its own. */
  readonly again: () => void;
}

/** Timers of the system take no more than 25 days; a session may wait for longer. */
const longestTimerMs = 3_600_000;

/** PENDING → SCHEDULED → PREPARING for what fits, which is then ordered; a reason for what does not, written when its code changes. */
export class ScheduleSessions {
  readonly #options: ScheduleSessionsOptions;
  #conflictedBefore = false;
  #cancelWake: (() => void) | undefined;

  constructor(options: ScheduleSessionsOptions) {
    this.#options = options;
  }

  async run(epoch: number, signal: AbortSignal): Promise<void> {
    const { memory, transitions, quotas, begin, clock, again } = this.#options;
    const now = clock.now();
    const snapshot = await memory.snapshot(now);
    if (snapshot.pending.length === 0) return;
    const plan = schedule(snapshot);
    let conflicts = 0;
    const exceeding = new Map<string, WaitingReason>();
    for (const placement of plan.placements) {
      if (signal.aborted) return;
      const { sessionId, kernels } = placement;
      const placed = await transitions.place({ sessionId, kernels, epoch });
      if (placed.length > 0) {
        memory.placed(placement);
        begin(placed, epoch);
        continue;
      }
      const violations = await quotas.violations(sessionId);
      if (violations.length > 0) exceeding.set(sessionId, { code: 'quota-exceeded', data: { violations } });
      else conflicts += 1;
    }
    await this.#writeReasons(new Map([...plan.reasons, ...exceeding]), epoch);
    await this.#giveUpForNow(plan, epoch);
    this.#wakeAt(
      snapshot.pending
        .flatMap(({ notBefore, startsAt }) => [notBefore, startsAt])
        .filter((at) => at !== undefined && at > now),
      now,
    );
    if (conflicts > 0) {
      // The memory was wrong: once more with what the database says, then with the tick.
      memory.forgetAll();
      if (!this.#conflictedBefore) again();
    }
    this.#conflictedBefore = conflicts > 0;
  }

  /** What could not be placed for long gets a lower priority. */
  async #giveUpForNow({ attempted, deprioritised }: Plan, epoch: number): Promise<void> {
    const { memory, transitions, changes } = this.#options;
    for (const sessionId of attempted) memory.attempted(sessionId);
    for (const { sessionId } of deprioritised) {
      const change = { target: { sessionId }, to: 'DEPRIORITIZING', reason: 'deprioritized', epoch } as const;
      changes.announce(await transitions.apply(change));
    }
  }

  stop(): void {
    this.#cancelWake?.();
  }

  async #writeReasons(reasons: Plan['reasons'], epoch: number): Promise<void> {
    const { memory, sessions, changes } = this.#options;
    const changed = [...reasons]
      .filter(([sessionId, reason]) => memory.reasonOf(sessionId) !== reason.code)
      .map(([sessionId, { code, data }]) => ({ sessionId, code, data }));
    if (changed.length === 0) return;
    const written = await sessions.writeReasons(changed, epoch);
    for (const row of written) memory.reasonWritten(row.sessionId, row.reason);
    changes.announce(written.map((row) => ({ ...row, agentId: null, from: 'PENDING', to: 'PENDING' })));
  }

  /** Sessions that an agent refused, or that have a time to start at, are tried again at their time. */
  #wakeAt(moments: ReadonlyArray<number | undefined>, now: number): void {
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    const next = moments.reduce<number>((least, at) => Math.min(least, at ?? least), Number.POSITIVE_INFINITY);
    if (Number.isFinite(next))
      this.#cancelWake = this.#options.clock.setTimer(Math.min(next - now + 1, longestTimerMs), this.#options.again);
  }
}
