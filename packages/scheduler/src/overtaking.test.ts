import { addSlots, fits, slotsFromTexts, subtractSlots } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyPlan, negative, schedule, withKernel } from './schedule.ts';
import type { AgentSnapshot, PendingSession, SchedulingPolicy, Snapshot } from './snapshot.ts';
import { SchedulingState } from './state.ts';
import { everyOption, snapshots } from './testing/arbitraries.ts';
import { naiveSchedule } from './testing/naive-schedule.ts';

const backfilling = (name: string) =>
  everyOption(name).map(({ preemption: _, ...group }) => ({ ...group, backfill: true }));

/** When a session alone would start if all that runs ends at its limit, found by trying each moment naively. */
function projectedStart(session: PendingSession, snapshot: Snapshot): number {
  const endOf = ({ ending, startedAt, timeLimitMs, awaitsVictims }: Snapshot['running'][number]): number => {
    if (ending) return snapshot.now;
    if (startedAt === undefined || timeLimitMs === undefined || awaitsVictims) return Number.POSITIVE_INFINITY;
    return Math.max(snapshot.now, startedAt + timeLimitMs);
  };
  const moments = [...new Set(snapshot.running.map(endOf))].filter(Number.isFinite).sort((a, b) => a - b);
  for (const at of moments) {
    const ended = snapshot.running.filter((other) => endOf(other) <= at).flatMap((other) => other.kernels);
    const agents = snapshot.agents.map((agent) =>
      ended
        .filter((kernel) => kernel.agentId === agent.id)
        .reduce((left, kernel) => withKernel(left, negative(kernel.slots), -1), agent),
    );
    const running = snapshot.running.filter((other) => endOf(other) > at);
    if (naiveSchedule({ ...snapshot, now: at, agents, running, pending: [session] }).placed.length > 0) return at;
  }
  return Number.POSITIVE_INFINITY;
}

describe('a session that passes the head of its queue', () => {
  it('never delays it: its start as found by trying every moment is no later', () => {
    let passed = 0;
    fc.assert(
      fc.property(snapshots({ groups: backfilling, crowded: true }), (snapshot) => {
        const plan = schedule(snapshot);
        const groups = snapshot.groups;
        const inTurn = { ...plan, placements: plan.placements.filter((placement) => !placement.backfilled) };
        const without = { ...applyPlan(snapshot, inTurn), groups };
        const after = { ...applyPlan(snapshot, plan), groups };
        passed += plan.placements.length - inTurn.placements.length;
        for (const headId of plan.attempted) {
          const head = snapshot.pending.find((session) => session.sessionId === headId)!;
          expect(projectedStart(head, after)).toBeLessThanOrEqual(projectedStart(head, without));
        }
      }),
      { numRuns: 200 },
    );
    expect(passed).toBeGreaterThan(10);
  });

  it('stays away from every agent of a head whose start nobody knows', () => {
    fc.assert(
      fc.property(snapshots({ groups: backfilling, crowded: true }), (snapshot) => {
        const plan = schedule(snapshot);
        for (const { sessionId, kernels, backfilled } of plan.placements) {
          if (!backfilled) continue;
          const session = snapshot.pending.find((other) => other.sessionId === sessionId)!;
          const head = snapshot.pending.find(
            (other) => plan.attempted.includes(other.sessionId) && other.resourceGroup === session.resourceGroup,
          )!;
          const inTurn = { ...plan, placements: plan.placements.filter((placement) => !placement.backfilled) };
          if (Number.isFinite(projectedStart(head, applyPlan(snapshot, inTurn)))) continue;
          const used = new Set(kernels.map((kernel) => kernel.agentId));
          const emptied = snapshot.agents
            .filter((agent) => used.has(agent.id))
            .map((agent) => ({ ...agent, used: {}, kernelCount: 0 }));
          const alone = { ...snapshot, agents: emptied, running: [], quotas: [], pending: [head] };
          if ((head.clusterMode ?? 'single-node') === 'single-node') expect(naiveSchedule(alone).placed).toEqual([]);
        }
      }),
    );
  });
});

describe('a session that gave up for a while', () => {
  const owner = { keypair: 'k', user: 'u', project: 'p', domain: 'd' };
  const agent: AgentSnapshot = {
    ...{ id: 'a', status: 'ALIVE', schedulable: true, resourceGroup: 'g', architecture: 'x', images: ['x i'] },
    ...{ capacity: { cpu: 4_000n }, used: { cpu: 2_000n }, kernelCount: 1 },
  } as const;
  const asks = (sessionId: string, cpu: bigint, given: Partial<PendingSession> = {}): PendingSession => ({
    ...{ sessionId, resourceGroup: 'g', owner, createdAt: 0, priority: 10 },
    kernels: [
      { kernelId: sessionId, role: 'main', index: 1, slots: { cpu: cpu * 1_000n }, image: 'i', architecture: 'x' },
    ],
    ...given,
  });
  const startOf = (pending: readonly PendingSession[], scheduler: SchedulingPolicy = 'fifo') =>
    schedule({
      ...{ now: 0, groups: [{ name: 'g', scheduler }], agents: [agent], pending, running: [] },
      ...{ quotas: [], fairShares: [] },
    }).placements.map(({ sessionId }) => sessionId);
  const large = asks('large', 4n, { priority: 0, requestedPriority: 10 });

  it('lets lower priorities pass, and none that asked for the same and came later', () => {
    const lower = asks('lower', 1n, { createdAt: 1, priority: 5 });
    const equal = asks('equal', 1n, { createdAt: 1 });
    expect(startOf([large, lower])).toEqual(['lower']);
    expect(startOf([large, equal])).toEqual([]);
    expect(startOf([large, equal, lower])).toEqual([]);
    expect(startOf([large, asks('higher', 1n, { createdAt: 1, priority: 20 })])).toEqual(['higher']);
  });

  it('comes after an equal that comes first by the order of the group', () => {
    expect(startOf([large, asks('earlier', 1n, { createdAt: -1 })])).toEqual(['earlier']);
    expect(startOf([large, asks('later', 1n, { createdAt: 1 })], 'lifo')).toEqual(['later']);
    expect(startOf([large, asks('earlier', 1n, { createdAt: -1 })], 'lifo')).toEqual([]);
  });

  it('does not give up while an equal waits behind it', () => {
    const tried = asks('tried', 4n, { attempts: 4 });
    const lowered = (pending: readonly PendingSession[], attemptsBeforeGivingUp?: number) =>
      schedule({
        ...{ now: 0, agents: [agent], pending, running: [], quotas: [], fairShares: [] },
        groups: [{ name: 'g', ...(attemptsBeforeGivingUp === undefined ? {} : { attemptsBeforeGivingUp }) }],
      }).deprioritised;
    expect(lowered([tried])).toEqual([{ sessionId: 'tried', priority: 0 }]);
    expect(lowered([tried, asks('lower', 1n, { createdAt: 1, priority: 5 })])).toHaveLength(1);
    expect(lowered([tried, asks('equal', 1n, { createdAt: 1 })])).toEqual([]);
    expect(lowered([tried], 6)).toEqual([]);
    expect(lowered([tried], 0)).toEqual([]);
  });
});

describe('preemption', () => {
  const preempting = (name: string) =>
    fc
      .tuple(everyOption(name), fc.constantFrom('user' as const, 'resource-group' as const))
      .map(([group, victimScope]) => ({
        ...group,
        preemption: { minRuntimeSec: 0, ...group.preemption, enabled: true, victimScope },
      }));

  it('takes the place of those only that it may, nobody twice in a pass, and of nobody without need', () => {
    let reservations = 0;
    fc.assert(
      fc.property(snapshots({ groups: preempting, crowded: true }), (snapshot) => {
        const plan = schedule(snapshot);
        const all = plan.reservations.flatMap(({ victims }) => victims.map((victim) => victim.sessionId));
        expect(new Set(all).size).toBe(all.length);
        const afterPlacements = applyPlan(snapshot, { ...plan, reservations: [] });
        for (const { sessionId, kernels, victims, decision } of plan.reservations) {
          reservations += 1;
          expect(victims.length).toBeGreaterThan(0);
          const session = snapshot.pending.find((other) => other.sessionId === sessionId)!;
          const { victimScope, preemptiblePriority = 100 } = snapshot.groups.find(
            (group) => group.name === session.resourceGroup,
          )!.preemption!;
          const sessions = victims.map(
            (victim) => snapshot.running.find((other) => other.sessionId === victim.sessionId)!,
          );
          for (const victim of sessions) {
            expect(victim.resourceGroup).toBe(session.resourceGroup);
            expect(victim.private ?? false).toBe(false);
            expect(victim.isPreemptible ?? true).toBe(true);
            expect(victim.jobPriority ?? 0).toBeLessThan(session.jobPriority ?? 0);
            expect(victim.jobPriority ?? 0).toBeLessThanOrEqual(preemptiblePriority);
            if (victimScope === 'user') expect(victim.owner.user).toBe(session.owner.user);
          }
          if (plan.reservations.length > 1 || session.clusterMode === 'multi-node') continue;
          const agent = afterPlacements.agents.find((other) => other.id === kernels[0]!.agentId)!;
          const wanted = session.kernels.map((kernel) => kernel.slots).reduce(addSlots, {});
          // What it tells was free before is what was, without what its victims give up.
          const { key, freed } = decision[0]!;
          const told = 'free' in key && plan.placements.length === 0 ? slotsFromTexts(key.free) : {};
          for (const [slot, amount] of Object.entries(told))
            expect(amount).toBe((agent.capacity[slot] ?? 0n) - (agent.used[slot] ?? 0n));
          if (Object.keys(told).length > 0)
            expect(fits(wanted, addSlots(told, slotsFromTexts(freed ?? {})))).toBe(true);
          const limit =
            snapshot.groups.find((group) => group.name === session.resourceGroup)!.maxKernelsPerAgent ??
            Number.POSITIVE_INFINITY;
          const roomWithout = (gone: typeof sessions): boolean => {
            const freed = gone.flatMap((victim) => victim.kernels).filter((kernel) => kernel.agentId === agent.id);
            const left = freed.reduce((sum, kernel) => subtractSlots(sum, kernel.slots), agent.used);
            const count = (agent.kernelCount ?? 0) - freed.length + session.kernels.length;
            return count <= limit && fits(wanted, subtractSlots(agent.capacity, left));
          };
          expect(roomWithout(sessions)).toBe(true);
          for (const spared of sessions)
            expect(roomWithout(sessions.filter((victim) => victim !== spared))).toBe(false);
        }
      }),
      { numRuns: 200 },
    );
    expect(reservations).toBeGreaterThan(10);
  });

  it('is previewed as a pass would do it', () => {
    fc.assert(
      fc.property(snapshots({ groups: preempting, crowded: true }), (snapshot) => {
        const state = new SchedulingState(snapshot);
        const { placements, reservations } = state.plan(snapshot.now);
        const [only] = reservations;
        if (!only || reservations.length > 1 || placements.length > 0) return;
        expect(state.previewPreemption(only.sessionId, snapshot.now)).toEqual(only);
      }),
    );
  });

  it('is explained as the plan or a preview does it, with all their kernels and where it would go', () => {
    const seen = { byNextPass: 0, onceItsTurn: 0, laterOn: 0 };
    const patient = (name: string) =>
      fc.tuple(preempting(name), fc.constantFrom(0, 4)).map(([group, minRuntimeSec]) => ({
        ...group,
        preemption: { ...group.preemption, minRuntimeSec },
      }));
    fc.assert(
      fc.property(snapshots({ groups: patient, crowded: true }), (snapshot) => {
        const state = new SchedulingState(snapshot);
        const { placements, reservations } = state.plan(snapshot.now);
        const placed = new Set(placements.map(({ sessionId }) => sessionId));
        for (const { sessionId } of snapshot.pending) {
          const planned = reservations.find((reservation) => reservation.sessionId === sessionId);
          const expected =
            planned ?? (placed.has(sessionId) ? undefined : state.previewPreemption(sessionId, snapshot.now));
          const { preemption, remedies, reasons, position } = state.explain(sessionId, snapshot.now)!;
          if (preemption && preemption.from !== null) {
            expect(expected).toBeUndefined();
            expect(state.previewPreemption(sessionId, preemption.from - 1)).toBeUndefined();
            const then = state.previewPreemption(sessionId, preemption.from)!;
            const sessions = then.victims.map((victim) => victim.sessionId);
            expect(preemption.sessions).toEqual(sessions);
            const change = { kind: 'wait-until', at: preemption.from, sessions: [...sessions].sort() };
            if (position === 1 && reasons.length === 1 && reasons[0]!.code === 'insufficient-resources')
              expect(remedies.flat()).toContainEqual(change);
            seen.laterOn += 1;
            continue;
          }
          expect(preemption?.sessions).toEqual(expected?.victims.map((victim) => victim.sessionId));
          if (!preemption || !expected) continue;
          expect(preemption).toMatchObject({ mode: expected.mode, byNextPass: planned !== undefined });
          const places = preemption.agents.flatMap(({ agentId, placed: count }) => Array(count).fill(agentId));
          expect(places).toEqual(expected.kernels.map(({ agentId }) => agentId).sort());
          const left = snapshot.running.filter((session) => preemption.sessions.includes(session.sessionId));
          const ended = left.flatMap((session) => session.kernels.map(({ agentId }) => agentId));
          for (const { agentId, ended: count, sessions } of preemption.agents) {
            expect(count).toBe(ended.filter((id) => id === agentId).length);
            for (const id of sessions) expect(preemption.sessions).toContain(id);
          }
          expect(preemption.agents.reduce((sum, agent) => sum + agent.ended, 0)).toBe(ended.length);
          seen[preemption.byNextPass ? 'byNextPass' : 'onceItsTurn'] += 1;
        }
      }),
      { numRuns: 200 },
    );
    expect(seen.byNextPass).toBeGreaterThan(5);
    expect(seen.onceItsTurn).toBeGreaterThan(5);
    expect(seen.laterOn).toBeGreaterThan(5);
  });
});
