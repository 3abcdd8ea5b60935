import type { SessionResult, SessionStatus } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decayedUsage, fairShareFactor, normalisedUsage } from './fair-share.ts';
import { schedule } from './schedule.ts';
import { slotOrder } from './selection.ts';
import {
  type AgentSnapshot,
  imageKey,
  type PendingSession,
  type Preemption,
  type Quota,
  type ResourceGroup,
  type RunningSession,
  type Snapshot,
} from './snapshot.ts';

const agent = (id: string, cpu: bigint, extra: Record<string, bigint> = {}): AgentSnapshot => ({
  id,
  status: 'ALIVE',
  schedulable: true,
  resourceGroup: 'default',
  architecture: 'x',
  images: [imageKey('i', 'x')],
  capacity: { cpu, ...extra },
  used: {},
});

const session = (sessionId: string, user: string, cpu: bigint, over: Partial<PendingSession> = {}): PendingSession => ({
  sessionId,
  resourceGroup: 'default',
  owner: { keypair: user, user, project: 'p', domain: 'd' },
  kernels: [{ kernelId: `k-${sessionId}`, role: 'main', index: 1, slots: { cpu }, image: 'i', architecture: 'x' }],
  createdAt: Number(sessionId.slice(1)),
  priority: 10,
  ...over,
});

const world = (group: Omit<ResourceGroup, 'name'>, over: Partial<Snapshot>): Snapshot => ({
  now: 1_000,
  groups: [{ name: 'default', ...group }],
  agents: [],
  pending: [],
  running: [],
  quotas: [],
  fairShares: [],
  ...over,
});

const placedIn = (snapshot: Snapshot): string[] => schedule(snapshot).placements.map(({ sessionId }) => sessionId);
const placedOn = (snapshot: Snapshot): string[] =>
  schedule(snapshot).placements.flatMap(({ kernels }) => kernels.map((kernel) => kernel.agentId));

describe('queues', () => {
  const mine = ['s1', 's2', 's3'].map((id) => session(id, 'greedy', 1_000n));
  const pending = [...mine, session('s4', 'modest', 1_000n)];
  const agents = [agent('a', 10_000n)];

  it('go by arrival, or by the newest', () => {
    expect(placedIn(world({ scheduler: 'fifo' }, { agents, pending }))).toEqual(['s1', 's2', 's3', 's4']);
    expect(placedIn(world({ scheduler: 'lifo' }, { agents, pending }))).toEqual(['s4', 's3', 's2', 's1']);
  });

  it('give turns to the user with the smallest dominant share, looked at anew after each placement', () => {
    expect(placedIn(world({ scheduler: 'drf' }, { agents, pending }))).toEqual(['s1', 's4', 's2', 's3']);
  });

  it('go by what scopes have used, those that used least first and the unknown last', () => {
    const used = (id: string, days: number) => ({
      resourceGroup: 'default',
      scope: 'user' as const,
      id,
      usage: { cpu: BigInt(days) * 86_400_000n },
    });
    const fairShares = [used('greedy', 50), used('modest', 1)];
    const all = [...pending, session('s0', 'unknown', 1_000n)];
    const order = placedIn(world({ scheduler: 'fair-share' }, { agents, pending: all, fairShares }));
    expect(order).toEqual(['s4', 's1', 's2', 's3', 's0']);
  });

  it('put a higher priority before every policy', () => {
    const urgent = session('s9', 'greedy', 1_000n, { priority: 20 });
    expect(placedIn(world({ scheduler: 'drf' }, { agents, pending: [...pending, urgent] }))[0]).toBe('s9');
  });

  it('hold back what is behind a session that lacks resources, not what is behind one that can never start', () => {
    const large = session('s1', 'u', 8_000n);
    const small = session('s2', 'u', 1_000n);
    const busy = [{ ...agent('a', 10_000n), used: { cpu: 5_000n } }];
    const held = schedule(world({}, { agents: busy, pending: [large, small] }));
    expect(held.placements).toEqual([]);
    expect([...held.reasons.values()].map(({ code }) => code)).toEqual([
      'insufficient-resources',
      'behind-head-of-line',
    ]);
    const never = session('s1', 'u', 80_000n);
    expect(placedIn(world({}, { agents: busy, pending: [never, small] }))).toEqual(['s2']);
  });

  it('give up what has waited too long since it was queued last, whenever it was made', () => {
    const patient = { pendingTimeoutMs: 500 };
    const since = (queuedAt?: number) =>
      schedule(
        world(patient, { agents, pending: [session('s1', 'u', 1_000n, queuedAt === undefined ? {} : { queuedAt })] }),
      );
    expect(since().expired).toEqual(['s1']);
    expect(since(501).placements).toHaveLength(1);
    expect(since(500).expired).toEqual(['s1']);
  });

  it('let a session go whose dependency succeeded, also when its end could not be confirmed', () => {
    const after = (status: SessionStatus, result: SessionResult) =>
      schedule(
        world(
          {},
          { agents, pending: [session('s1', 'u', 1_000n, { dependencies: [{ sessionId: 'd', status, result }] })] },
        ),
      );
    expect(after('ERROR', 'success').placements).toHaveLength(1);
    expect(after('ERROR', 'failure').reasons.get('s1')?.code).toBe('dependency-failed');
    expect(after('TERMINATING', 'success').reasons.get('s1')?.code).toBe('dependency-unfinished');
  });

  it('tell what is short for a kernel beside the others of its session', () => {
    const [one] = session('s1', 'u', 6_000n).kernels;
    const kernels = [one!, { ...one!, kernelId: 'k-2', role: 'sub' as const }];
    const running = {
      ...session('s0', 'u', 6_000n),
      kernels: [{ kernelId: 'k', agentId: 'b', slots: { cpu: 6_000n } }],
    };
    const held = { ...agent('b', 10_000n), used: { cpu: 6_000n }, kernelCount: 1 };
    const reason = (maxKernelsPerAgent?: number, capacity = 10_000n) =>
      schedule(
        world(maxKernelsPerAgent === undefined ? {} : { maxKernelsPerAgent }, {
          agents: [agent('a', capacity), { ...held, capacity: { cpu: capacity } }],
          pending: [session('s1', 'u', 6_000n, { clusterMode: 'multi-node', kernels })],
          running: [running],
        }),
      ).reasons.get('s1');
    const lacking = { cpu: { asked: '6', mostFree: '4' } };
    expect(reason()).toEqual({ code: 'insufficient-resources', data: { lacking } });
    expect(reason(1)).toEqual({ code: 'insufficient-resources', data: { lacking } });
    expect(reason(1, 12_000n)).toEqual({ code: 'kernel-limit-reached', data: { limit: 1 } });
    expect(reason(2, 12_000n)).toBeUndefined();
  });

  it('do not take what others hold for a lack of the agents themselves', () => {
    const [one] = session('s1', 'u', 1_000n).kernels;
    const kernels = [2_000n, 5_000n].map((mem, i) => ({ ...one!, kernelId: `k-${i}`, slots: { mem } }));
    const full = { ...agent('b', 4_000n, { mem: 6_000n }), used: { mem: 6_000n } };
    const plan = schedule(
      world(
        { selection: 'concentrated' },
        {
          agents: [agent('a', 4_000n, { mem: 4_000n }), full],
          pending: [session('s1', 'u', 0n, { clusterMode: 'multi-node', kernels })],
        },
      ),
    );
    expect(plan.reasons.get('s1')?.code).toBe('insufficient-resources');
  });

  it('report all quotas that are exceeded at once', () => {
    const quotas: Quota[] = [
      { scope: 'project', id: 'p', limits: { cpu: 500n } },
      { scope: 'keypair', id: 'u', limits: {}, unlisted: 'zero', maxSessions: 0 },
    ];
    const plan = schedule(world({}, { agents, pending: [session('s1', 'u', 1_000n)], quotas }));
    expect(plan.reasons.get('s1')).toEqual({
      code: 'quota-exceeded',
      data: {
        violations: [
          { scope: 'keypair', id: 'u', slot: 'sessions', asked: '1', used: '0', limit: '0' },
          { scope: 'keypair', id: 'u', slot: 'cpu', asked: '1', used: '0', limit: '0' },
          { scope: 'project', id: 'p', slot: 'cpu', asked: '1', used: '0', limit: '0.5' },
        ],
      },
    });
  });

  it('tell each session what its limits have left at its turn, also of several that ask for the same', () => {
    const quotas: Quota[] = [{ scope: 'user', id: 'u', limits: { cpu: 5_000n } }];
    const waiting = [session('s1', 'u', 6_000n), session('s2', 'u', 1_000n), session('s3', 'u', 6_000n)];
    const { placements, reasons } = schedule(world({}, { agents, pending: waiting, quotas }));
    expect(placements.map(({ sessionId }) => sessionId)).toEqual(['s2']);
    const violation = { scope: 'user', id: 'u', slot: 'cpu', asked: '6', limit: '5' };
    expect(reasons.get('s1')?.data).toEqual({ violations: [{ ...violation, used: '0' }] });
    expect(reasons.get('s3')?.data).toEqual({ violations: [{ ...violation, used: '1' }] });
  });

  it('tell those behind a head that they are, also those of which one like them stands before it', () => {
    const full = [{ ...agent('a', 10_000n), used: { cpu: 5_000n } }];
    const waiting = [session('s1', 'u', 20_000n), session('s2', 'u', 10_000n), session('s3', 'u', 20_000n)];
    const { reasons } = schedule(world({}, { agents: full, pending: waiting }));
    expect([...reasons].map(([sessionId, { code }]) => [sessionId, code])).toEqual([
      ['s1', 'exceeds-agents'],
      ['s2', 'insufficient-resources'],
      ['s3', 'behind-head-of-line'],
    ]);
  });

  it('tell those behind a head what holds for each, also of several that ask for the same', () => {
    const [machine] = [agent('a', 10_000n)];
    const running = [{ ...session('s0', 'u', 5_000n), startedAt: 0, timeLimitMs: 10_000, type: 'batch' as const }].map(
      ({ kernels, ...rest }) => ({ ...rest, kernels: kernels.map((kernel) => ({ ...kernel, agentId: 'a' })) }),
    );
    const quotas: Quota[] = [{ scope: 'user', id: 'u', limits: { cpu: 30_000n } }];
    const waiting = [
      session('s1', 'u', 10_000n),
      session('s2', 'u', 20_000n, { timeLimitMs: 1 }),
      session('s3', 'u', 20_000n),
    ];
    const plan = schedule(
      world(
        { backfill: true },
        { agents: [{ ...machine!, used: { cpu: 5_000n }, kernelCount: 1 }], pending: waiting, running, quotas },
      ),
    );
    expect(waiting.map(({ sessionId }) => plan.reasons.get(sessionId)?.code)).toEqual([
      'insufficient-resources',
      'exceeds-agents',
      'behind-head-of-line',
    ]);
  });
});

describe('preemption', () => {
  const holder = (sessionId: string, cpu: bigint, startedAt: number | undefined, owner = {}): RunningSession => {
    const { kernels, ...rest } = session(sessionId, 'u', cpu);
    return {
      ...rest,
      owner: { ...rest.owner, ...owner },
      kernels: kernels.map((kernel) => ({ ...kernel, agentId: 'a' })),
      ...(startedAt === undefined ? {} : { startedAt }),
    };
  };
  /** Of an agent that is full. */
  const victimsOf = (preemption: Preemption | undefined, running: RunningSession[], asked = 1_000n): string[] => {
    const used = running.flatMap(({ kernels }) => kernels).reduce((sum, { slots }) => sum + slots.cpu!, 0n);
    const agents = [{ ...agent('a', used), used: { cpu: used }, kernelCount: running.length }];
    const pending = [session('s9', 'u', asked, { jobPriority: 5 })];
    const plan = schedule(world(preemption ? { preemption } : {}, { now: 60_000, agents, pending, running }));
    return plan.reservations.flatMap(({ victims }) => victims.map(({ sessionId }) => sessionId));
  };

  it.each([
    ['oldest', ['s3'], ['s3']],
    ['newest', ['s2'], ['s2', 's1']],
    ['fewest-sessions', ['s1'], ['s3']],
    ['smallest-resources', ['s1'], ['s1', 's2']],
  ] as const)('of the %s first makes %j leave for one core and %j for two', (order, forOne, forTwo) => {
    const running = [holder('s1', 1_000n, 2_000), holder('s2', 1_000n, 3_000), holder('s3', 2_000n, 1_000)];
    expect(victimsOf({ enabled: true, order }, running)).toEqual(forOne);
    expect(victimsOf({ enabled: true, order }, running, 2_000n)).toEqual(forTwo);
  });

  it.each([
    ['user', 's1'],
    ['project', 's2'],
    ['domain', 's3'],
    ['resource-group', 's4'],
  ] as const)('within the %s reaches as far as %s', (victimScope, expected) => {
    const running = [
      holder('s1', 1_000n, 1_000, { project: 'other' }),
      holder('s2', 1_000n, 2_000, { user: 'other' }),
      holder('s3', 1_000n, 3_000, { user: 'other', project: 'other' }),
      holder('s4', 1_000n, 4_000, { user: 'other', project: 'other', domain: 'other' }),
    ];
    expect(victimsOf({ enabled: true, order: 'newest', victimScope }, running)).toEqual([expected]);
  });

  it('spares those that have not run long enough, and everybody where it is not wanted', () => {
    const started = [holder('s1', 1_000n, 50_000)];
    expect(victimsOf({ enabled: true, minRuntimeSec: 10 }, started)).toEqual(['s1']);
    expect(victimsOf({ enabled: true, minRuntimeSec: 11 }, started)).toEqual([]);
    expect(victimsOf({ enabled: true, minRuntimeSec: 1 }, [holder('s1', 1_000n, undefined)])).toEqual([]);
    expect(victimsOf({ enabled: false }, started)).toEqual([]);
    expect(victimsOf(undefined, started)).toEqual([]);
  });
});

describe('selection', () => {
  const agents = [agent('a', 4_000n), agent('b', 8_000n), agent('c', 6_000n, { 'cuda.device': 1_000n })];
  const pending = ['s1', 's2', 's3'].map((id) => session(id, 'u', 3_000n));

  it.each([
    ['concentrated', ['a', 'b', 'b']],
    ['dispersed', ['b', 'b', 'a']],
    ['legacy', ['b', 'b', 'a']],
  ] as const)('%s keeps work without accelerators off them while it can, and takes %j', (selection, expected) => {
    expect(placedOn(world({ selection }, { agents, pending }))).toEqual(expected);
  });

  it('goes round by ids among the agents that have room', () => {
    // The first takes all of `a`: the second is the second of those left, the third the first.
    expect(placedOn(world({ selection: 'roundrobin' }, { agents, pending }))).toEqual(['a', 'c', 'b']);
  });

  it('goes on with round robin where the snapshot says', () => {
    const plan = schedule(world({ selection: 'roundrobin', roundRobin: 4 }, { agents, pending: pending.slice(0, 1) }));
    expect(plan.placements[0]?.kernels[0]?.agentId).toBe('b');
    expect(plan.roundRobin).toEqual({ default: 5 });
  });

  it('compares slots in the order of devices, then of names', () => {
    const names = ['mem', 'zeta', 'cpu', 'cuda.shares', 'alpha', 'rocm.device', 'cudalike'];
    expect(slotOrder(names)).toEqual(['cuda.shares', 'rocm.device', 'cpu', 'mem', 'alpha', 'cudalike', 'zeta']);
  });
});

describe('preemption', () => {
  it('makes room for the kernels of a session in one network, also where the first could be in no other', () => {
    const networks = { a: ['one', 'i'], b: ['two', 'j'], c: ['one', 'j'] } as const;
    const agents = Object.entries(networks).map(([id, [clusterNetwork, image]]) => ({
      ...agent(id, 1_000n),
      ...{ clusterNetwork, images: [imageKey(image, 'x')], used: { cpu: 1_000n }, kernelCount: 1 },
    }));
    const running = agents.map(({ id }, nth) => ({
      ...{ sessionId: `of-${id}`, resourceGroup: 'default', startedAt: nth },
      owner: session('s0', 'u', 0n).owner,
      kernels: [{ kernelId: `k-${id}`, agentId: id, slots: { cpu: 1_000n } }],
    }));
    const [first] = session('s1', 'u', 1_000n).kernels;
    const kernels = [first!, { ...first!, kernelId: 'k-2', image: 'j', role: 'sub' as const }];
    const pending = [session('s1', 'u', 0n, { clusterMode: 'multi-node', kernels, jobPriority: 1 })];
    const { reservations } = schedule(world({ preemption: { enabled: true } }, { agents, pending, running }));
    expect(reservations.map(({ victims }) => victims.map(({ sessionId }) => sessionId))).toEqual([['of-a', 'of-c']]);
  });
});

describe('fair share', () => {
  it('halves usage with each half life and forgets what is beyond the window', () => {
    const day = { cpu: 1_000_000n };
    const buckets = [0, 7, 14, 28].map((daysAgo) => ({ daysAgo, usage: day }));
    expect(decayedUsage(buckets)).toEqual({ cpu: 1_750_000n });
  });

  it('weighs slots, and counts a full window of the whole group as one', () => {
    const full = BigInt(28 * 86_400);
    const capacity = { cpu: 4_000n, 'cuda.device': 2_000n };
    expect(normalisedUsage({ cpu: 4_000n * full, 'cuda.device': 2_000n * full }, capacity)).toBe(1);
    expect(normalisedUsage({ cpu: 4_000n * full }, capacity)).toBeCloseTo(1 / 11);
  });

  it('has a factor within its bounds that falls with usage and rises with weight', () => {
    const usage = fc.double({ min: 0, max: 1e6, noNaN: true });
    const weight = fc.double({ min: 0.001, max: 1000, noNaN: true });
    fc.assert(
      fc.property(usage, usage, weight, (a, b, w) => {
        const factor = fairShareFactor(a, w);
        expect(factor).toBeGreaterThanOrEqual(2 ** -10);
        expect(factor).toBeLessThanOrEqual(1);
        expect(fairShareFactor(a + b, w)).toBeLessThanOrEqual(factor);
        expect(fairShareFactor(a, w * 2)).toBeGreaterThanOrEqual(factor);
      }),
    );
  });
});
