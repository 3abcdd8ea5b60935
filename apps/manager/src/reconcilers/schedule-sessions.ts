import type { Clock } from '@backend.ai/core';
import { isOutage } from '@backend.ai/database';
import type { Placement, Plan, Reservation, WaitingReason } from '@backend.ai/scheduler';
import type { Logger } from '@backend.ai/telemetry';
import type { PlacementWrite } from '../repositories/placement-sql.ts';
import type { QuotaRepository } from '../repositories/quotas.ts';
import type { SessionTransitions, StartableKernel } from '../repositories/session-transitions.ts';
import type { SessionRepository } from '../repositories/sessions.ts';
import type { SchedulingMemory } from '../scheduling/scheduling-memory.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';
import { eachItem, failuresOf } from './each-item.ts';

export interface ScheduleSessionsOptions {
  readonly memory: SchedulingMemory;
  readonly transitions: SessionTransitions;
  readonly sessions: SessionRepository;
  /** Says why a placement was refused that went beyond limits. */
  readonly quotas: QuotaRepository;
  readonly changes: SessionChanges;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Orders the kernels of a session that was placed, in the background. */
  readonly begin: (kernels: readonly StartableKernel[], epoch: number) => void;
  /** Asks for another pass, under a request id of its own. */
  readonly again: () => void;
  /** Called when warm slots were taken or had to go. */
  readonly refill: () => void;
}

/** What the database did not agree to. */
interface Refused {
  /** Beyond limits, as the database tells. */
  readonly exceeding: Map<string, WaitingReason>;
  conflicts: number;
}

/** Placements of one statement at most: the first of many start while the others are being written. */
const placementsAtOnce = 64;

/** Timers of the system take no more than 25 days; a session may wait for longer. */
const longestTimerMs = 3_600_000;

/**
 * PENDING → SCHEDULED → PREPARING for what fits, which is then ordered; PENDING → RESERVED where others have to leave, and
 * on from there once they have left; a reason for what waits, written when its code changes.
 */
export class ScheduleSessions {
  readonly #options: ScheduleSessionsOptions;
  /** The plan that was carried out last: while nothing changes it stays the same one. */
  #done: Plan | undefined;
  #conflictedBefore = false;
  #cancelWake: (() => void) | undefined;

  constructor(options: ScheduleSessionsOptions) {
    this.#options = options;
  }

  async run(epoch: number, signal: AbortSignal): Promise<void> {
    const { memory, clock } = this.#options;
    await memory.refresh();
    await this.#admit(epoch, signal);
    if (memory.queueLength === 0) {
      // A plan holds on to all that it was made of.
      this.#done = undefined;
      return;
    }
    const now = clock.now();
    const plan = memory.plan(now);
    if (plan !== this.#done) await this.#carryOut(plan, now, epoch, signal);
    await this.#giveUpForNow(plan, epoch);
  }

  stop(): void {
    this.#cancelWake?.();
  }

  async #carryOut(plan: Plan, now: number, epoch: number, signal: AbortSignal): Promise<void> {
    const { memory, again } = this.#options;
    const news = memory.news(now);
    memory.planned(plan);
    const refused: Refused = { exceeding: new Map(), conflicts: 0 };
    const failures = await failuresOf(chunksOf(plan.placements, placementsAtOnce), async (placements) => {
      if (!signal.aborted) await this.#place(placements, epoch, refused, signal);
    });
    const { exceeding } = refused;
    const conflicts = refused.conflicts + (await this.#reserve(plan.reservations, epoch, signal));
    await this.#writeReasons(news.reasons, epoch);
    await this.#writeReasons(beyondLimits(exceeding, memory), epoch);
    this.#wakeAt(news.wakeAt, now);
    // The memory was wrong: once more with what the database says, then with the tick.
    if (conflicts > 0) memory.forgetAll();
    else if (exceeding.size > 0) memory.rulesChanged();
    if (conflicts > 0 && !this.#conflictedBefore) again();
    this.#conflictedBefore = conflicts > 0;
    if (failures[0]) throw failures[0].error;
    this.#done = plan;
  }

  /** All in one statement, then those that it left out, each by itself. One that fails does not hold up the others. */
  async #place(placements: readonly Placement[], epoch: number, refused: Refused, signal: AbortSignal): Promise<void> {
    const { transitions, quotas } = this.#options;
    const placed = placements.length > 1 ? await this.#placeTogether(placements, epoch) : new Set();
    const left = placements.filter(({ sessionId }) => !placed.has(sessionId));
    await eachItem(left, async (placement) => {
      if (signal.aborted) return;
      const kernels = await transitions.place({ ...writeOf(placement), epoch });
      if (kernels.length > 0) {
        this.#placed(placement, kernels, epoch);
        return;
      }
      const violations = await quotas.violations(placement.sessionId);
      if (violations.length === 0) refused.conflicts += 1;
      else refused.exceeding.set(placement.sessionId, { code: 'quota-exceeded', data: { violations } });
    });
  }

  async #placeTogether(placements: readonly Placement[], epoch: number): Promise<ReadonlySet<string>> {
    const { transitions, logger } = this.#options;
    try {
      const placed = await transitions.placeAll(placements.map(writeOf), epoch);
      for (const placement of placements) {
        const kernels = placed.get(placement.sessionId);
        if (kernels) this.#placed(placement, kernels, epoch);
      }
      return new Set(placed.keys());
    } catch (error) {
      if (isOutage(error)) throw error;
      logger.warn('placements together failed', { placements: placements.length, error });
      return new Set();
    }
  }

  #placed(placement: Placement, kernels: readonly StartableKernel[], epoch: number): void {
    const { memory, begin, refill } = this.#options;
    memory.placed(placement);
    begin(kernels, epoch);
    if (kernels.some(({ warmSlotsChanged }) => warmSlotsChanged)) {
      memory.warmSlotsChanged();
      refill();
    }
  }

  /**
   * One after the other on each agent: while somebody waits for victims to leave there, what else they make free is not
   * known yet, and more would be made to leave than necessary.
   * @returns how many were not as they were when this was decided
   */
  async #reserve(reservations: readonly Reservation[], epoch: number, signal: AbortSignal): Promise<number> {
    const { memory, transitions, changes } = this.#options;
    const taken = new Set([...memory.awaiting.values()].flat());
    let conflicts = 0;
    for (const reservation of reservations) {
      const { sessionId, kernels, victims, mode, decision: decisions } = reservation;
      if (signal.aborted) return conflicts;
      if (kernels.some(({ agentId }) => taken.has(agentId))) continue;
      const moved = await transitions.reserve({
        ...{ sessionId, kernels, mode, epoch, why: { decisions, mode } },
        victims: victims.map((victim) => victim.sessionId),
      });
      if (moved.length === 0) conflicts += 1;
      else {
        memory.reserved(reservation);
        memory.warmSlotsChanged();
      }
      changes.announce(moved);
    }
    return conflicts;
  }

  /**
   * RESERVED → SCHEDULED → PREPARING, in the order of reservations: on each agent the first that does not fit holds up
   * the others.
   */
  async #admit(epoch: number, signal: AbortSignal): Promise<void> {
    const { memory, transitions, begin } = this.#options;
    const blocked = new Set<string>();
    for (const [sessionId, agents] of [...memory.awaiting]) {
      if (signal.aborted) return;
      if (agents.some((agentId) => blocked.has(agentId))) continue;
      const admitted = await transitions.admit({ sessionId, epoch });
      if (admitted.length === 0) {
        for (const agentId of agents) blocked.add(agentId);
        continue;
      }
      memory.admitted(sessionId);
      begin(admitted, epoch);
    }
  }

  /** What could not be placed for long gets a lower priority, with the attempt that is one too many. */
  async #giveUpForNow({ attempted, deprioritised }: Plan, epoch: number): Promise<void> {
    const { memory, transitions, sessions, changes } = this.#options;
    for (const sessionId of attempted) {
      const attempts = memory.attempted(sessionId);
      if (attempts === undefined) continue;
      // For whoever leads next.
      await sessions.writeAttempts(sessionId, attempts, epoch);
      if (!deprioritised.some((given) => given.sessionId === sessionId)) continue;
      const change = { target: { sessionId }, to: 'DEPRIORITIZING', reason: 'deprioritized', epoch } as const;
      changes.announce(await transitions.apply(change));
    }
  }

  async #writeReasons(reasons: ReadonlyArray<{ sessionId: string } & WaitingReason>, epoch: number): Promise<void> {
    const { memory, sessions, changes } = this.#options;
    if (reasons.length === 0) return;
    const written = await sessions.writeReasons(reasons, epoch);
    for (const row of written) memory.reasonWritten(row.sessionId, row.reason);
    changes.announce(written.map((row) => ({ ...row, agentId: null, from: 'PENDING', to: 'PENDING' })));
  }

  /** Sessions that an agent refused, or that have a time to start at, are tried again at their time. */
  #wakeAt(at: number, now: number): void {
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    if (Number.isFinite(at))
      this.#cancelWake = this.#options.clock.setTimer(Math.min(at - now + 1, longestTimerMs), this.#options.again);
  }
}

function beyondLimits(exceeding: Refused['exceeding'], memory: SchedulingMemory) {
  return [...exceeding]
    .map(([sessionId, reason]) => ({ sessionId, ...reason }))
    .filter(({ sessionId, code }) => memory.reasonOf(sessionId) !== code);
}

function writeOf({ sessionId, kernels, decision: decisions, backfilled }: Placement): PlacementWrite {
  return { sessionId, kernels, why: { decisions, ...(backfilled ? { backfilled } : {}) } };
}

function chunksOf<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, nth) => items.slice(nth * size, (nth + 1) * size));
}
