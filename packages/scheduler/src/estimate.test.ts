import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.ts';
import type { Estimate } from './estimate.ts';
import { inTurn } from './order.ts';
import {
  type AgentSnapshot,
  type GroupHistory,
  imageKey,
  type PendingSession,
  type RunningSession,
} from './snapshot.ts';
import { SchedulingState } from './state.ts';
import { everyOption, snapshots } from './testing/arbitraries.ts';

const owner = { keypair: 'k', user: 'u', project: 'p', domain: 'd' };
const minute = 60_000;

const waits = (sessionId: string, cpu: number, given: Partial<PendingSession> = {}): PendingSession => ({
  ...{ sessionId, resourceGroup: 'g', owner, createdAt: 0, priority: 10, jobPriority: 1 },
  kernels: [
    {
      kernelId: sessionId,
      role: 'main',
      index: 1,
      slots: { cpu: BigInt(cpu) * 1_000n },
      image: 'i',
      architecture: 'x',
    },
  ],
  ...given,
});
const runs = (sessionId: string, cpu: number, given: Partial<RunningSession> = {}): RunningSession => ({
  ...{ sessionId, resourceGroup: 'g', owner, startedAt: 0 },
  kernels: [{ kernelId: sessionId, agentId: 'a', slots: { cpu: BigInt(cpu) * 1_000n } }],
  ...given,
});

/** One agent of eight cores. */
function world(running: readonly RunningSession[], pending: readonly PendingSession[], group: object = {}) {
  const used = running.flatMap(({ kernels }) => kernels).reduce((sum, { slots }) => sum + slots.cpu!, 0n);
  const agent: AgentSnapshot = {
    ...{ id: 'a', status: 'ALIVE', schedulable: true, resourceGroup: 'g', architecture: 'x' },
    ...{ images: [imageKey('i', 'x')], capacity: { cpu: 8_000n }, used: { cpu: used } },
  };
  const groups = [{ name: 'g', ...group }];
  const state = new SchedulingState({ groups, agents: [agent], running, pending, quotas: [], fairShares: [] });
  return (sessionId: string, now = minute): Estimate => state.explain(sessionId, now)!.estimate;
}

const history: GroupHistory = { startsPerHour: 6, samples: 5, lastStartAt: 2 * minute };

describe('an estimate', () => {
  it('is never earlier than that of a session further ahead in its queue', () => {
    let compared = 0;
    const withHistory = (name: string) =>
      fc
        .tuple(everyOption(name), fc.integer({ min: 1, max: 500_000 }), fc.boolean())
        .map(([group, startsPerHour, has]) => ({
          ...group,
          ...(has ? { history: { startsPerHour, samples: 9 } } : {}),
        }));
    fc.assert(
      fc.property(snapshots({ groups: withHistory, crowded: true }), (snapshot) => {
        const state = new SchedulingState(snapshot);
        const plan = state.plan(snapshot.now);
        for (const group of new Cluster(snapshot).groups.values()) {
          let before = 0;
          for (const { session } of inTurn(group)) {
            if (!plan.reasons.has(session.sessionId)) continue;
            const { estimate, reasons } = state.explain(session.sessionId, snapshot.now)!;
            if (reasons.some(({ code }) => code === 'exceeds-agents' || code === 'no-common-network')) continue;
            const at = estimate.at ?? Number.POSITIVE_INFINITY;
            expect(at).toBeGreaterThanOrEqual(before);
            if (Number.isFinite(at)) compared += 1;
            before = at;
          }
        }
      }),
      { numRuns: 200 },
    );
    expect(compared).toBeGreaterThan(50);
  });

  it('follows the queue by time limits: those that run, then those ahead that start when these end', () => {
    const running = [runs('long', 6, { timeLimitMs: 60 * minute }), runs('short', 2, { timeLimitMs: 10 * minute })];
    const estimate = world(running, [
      waits('head', 8, { timeLimitMs: 5 * minute }),
      waits('behind', 1, { createdAt: 1 }),
      waits('last', 8, { createdAt: 2 }),
    ]);
    expect(estimate('head')).toEqual({ at: 60 * minute, basis: 'time-limits' });
    expect(estimate('behind')).toEqual({ at: 65 * minute, basis: 'time-limits' });
    // That behind has no time limit, so that nobody knows when all is free again.
    expect(estimate('last')).toEqual({ at: null, basis: 'unknown' });
  });

  it('does not recede while nothing happens, and is nobody’s to tell once its moment has passed', () => {
    const estimate = world([runs('endless', 8)], [waits('head', 8), waits('behind', 1, { createdAt: 1 })], { history });
    for (const now of [minute, 5 * minute, 11 * minute]) {
      expect(estimate('head', now)).toEqual({ at: 12 * minute, basis: 'history' });
      expect(estimate('behind', now)).toEqual({ at: 22 * minute, basis: 'history' });
    }
    // Nobody behind it starts before it either.
    for (const id of ['head', 'behind']) expect(estimate(id, 13 * minute)).toEqual({ at: null, basis: 'unknown' });
  });

  it('goes on by the pace of the group from the first session on whose start time limits do not tell', () => {
    const limited = [runs('limited', 4, { timeLimitMs: 30 * minute }), runs('endless', 4)];
    const estimate = world(limited, [waits('head', 4), waits('second', 8, { createdAt: 1 })], { history });
    expect(estimate('head')).toEqual({ at: 30 * minute, basis: 'time-limits' });
    // Its pace alone would say 22 minutes.
    expect(estimate('second')).toEqual({ at: 30 * minute, basis: 'history' });
  });

  it('tells from when on others have run long enough to make room, who they are, and that waiting for it helps', () => {
    const preemption = { enabled: true, minRuntimeSec: 3_600 };
    const running = [runs('early', 4), runs('late', 4, { startedAt: 10 * minute })];
    const pending = [waits('head', 8), waits('small', 2, { createdAt: 1 })];
    expect(world(running, pending, { preemption })('head')).toEqual({ at: 70 * minute, basis: 'preemption' });
    expect(world(running, [waits('head', 4)], { preemption })('head').at).toBe(60 * minute);
    expect(world(running, pending, { preemption })('small')).toEqual({ at: null, basis: 'unknown' });
    const soon = running.map((session) => ({ ...session, timeLimitMs: 20 * minute }));
    expect(world(soon, pending, { preemption })('head')).toEqual({ at: 30 * minute, basis: 'time-limits' });
  });
});
