import type { ResourceSlots } from '@backend.ai/core';
import fc from 'fast-check';
import {
  type AgentSnapshot,
  imageKey,
  type Owner,
  type PendingSession,
  preemptionOrders,
  type Quota,
  quotaScopes,
  type ResourceGroup,
  type RunningSession,
  type Snapshot,
  schedulingPolicies,
  selectionStrategies,
  victimScopes,
} from '../snapshot.ts';

const now = 1_000_000;
const groups = ['g1', 'g2'];

const some = <T>(arb: fc.Arbitrary<T>, freq = 2): fc.Arbitrary<T | undefined> =>
  fc.option(arb, { nil: undefined, freq });
/** Without fields that do not apply. */
const compact = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;

/** Whole bytes and thousandths. */
const slots = (max: number): fc.Arbitrary<ResourceSlots> =>
  fc
    .record({
      cpu: fc.integer({ min: 0, max }),
      mem: fc.integer({ min: 0, max }),
      gpu: some(fc.integer({ min: 0, max: 2 }), 2),
    })
    .map(({ cpu, mem, gpu }) => ({
      cpu: BigInt(cpu) * 500n,
      mem: BigInt(mem) * 1000n,
      ...(gpu === undefined ? {} : { 'cuda.device': BigInt(gpu) * 1000n }),
    }));

const owner: fc.Arbitrary<Owner> = fc.record({
  keypair: fc.constantFrom('k1', 'k2'),
  user: fc.constantFrom('u1', 'u2', 'u3'),
  project: fc.constantFrom('p1', 'p2'),
  domain: fc.constantFrom('d1', 'd2'),
});

const warmKey = fc.constantFrom('w1', 'w2');

const agent = (index: number): fc.Arbitrary<AgentSnapshot> =>
  fc
    .record({
      status: fc.constantFrom('ALIVE', 'ALIVE', 'ALIVE', 'ALIVE', 'LOST' as const),
      schedulable: fc.constantFrom(true, true, true, false),
      resourceGroup: fc.constantFrom(...groups),
      architecture: fc.constantFrom('x', 'x', 'x', 'y'),
      images: fc.subarray(['i1', 'i2'], { minLength: 1 }),
      fetchesImages: fc.boolean(),
      enforcesEgress: fc.constantFrom(true, true, false),
      clusterNetwork: some(fc.constantFrom('n1', 'n2')),
      capacity: slots(12),
      warmSlots: some(fc.array(fc.record({ key: warmKey, slots: slots(3), ready: fc.boolean() }), { maxLength: 3 })),
    })
    .map(({ images, status, warmSlots, ...rest }) => ({
      id: `a${index}`,
      ...compact(rest),
      status: status as AgentSnapshot['status'],
      images: images.map((image) => imageKey(image, rest.architecture)),
      used: {},
      kernelCount: 0,
      ...(warmSlots ? { warmSlots: warmSlots.map((slot, nth) => ({ ...slot, slotId: `w${index}-${nth}` })) } : {}),
    }));

const many = <T>(max: number, of: (index: number) => fc.Arbitrary<T>, min = 0): fc.Arbitrary<T[]> =>
  fc.integer({ min, max }).chain((n) => fc.tuple(...Array.from({ length: n }, (_, i) => of(i))));

const pending = (index: number): fc.Arbitrary<PendingSession> =>
  fc
    .record({
      resourceGroup: fc.constantFrom(...groups),
      owner,
      kernels: fc.array(
        fc.record({
          slots: slots(6),
          image: fc.constantFrom('i1', 'i1', 'i2'),
          architecture: fc.constantFrom('x', 'x', 'x', 'x', 'y'),
          fetchable: fc.boolean(),
        }),
        { minLength: 1, maxLength: 3 },
      ),
      clusterMode: some(fc.constantFrom('single-node' as const, 'multi-node' as const)),
      type: some(fc.constantFrom('interactive' as const, 'batch' as const)),
      private: some(fc.boolean(), 8),
      createdAt: fc.integer({ min: now - 10, max: now - 1 }),
      priority: fc.constantFrom(0, 10, 10, 20),
      requestedPriority: some(fc.constantFrom(10, 20), 2),
      jobPriority: some(fc.integer({ min: 0, max: 3 })),
      startsAt: some(fc.constantFrom(now - 1, now + 5_000), 5),
      dependencies: some(
        fc.constantFrom(
          [{ sessionId: 'd', status: 'TERMINATED' as const, result: 'success' as const }],
          [{ sessionId: 'd', status: 'RUNNING' as const, result: 'undefined' as const }],
          [{ sessionId: 'd', status: 'TERMINATED' as const, result: 'failure' as const }],
          [{ sessionId: 'd', status: 'ERROR' as const, result: 'success' as const }],
        ),
        6,
      ),
      designated: some(
        fc.record({
          agents: fc.subarray(['a0', 'a1', 'a2'], { minLength: 1 }),
          mode: fc.constantFrom('strict' as const, 'preferred' as const),
        }),
        5,
      ),
      warmKey: some(warmKey),
      attempts: some(fc.integer({ min: 0, max: 6 })),
      notBefore: some(fc.constantFrom(now - 1, now + 7_000), 8),
      refusedBy: some(fc.subarray(['a0', 'a1'], { minLength: 1 }), 5),
      timeLimitMs: some(fc.integer({ min: 1, max: 5_000 })),
    })
    .map(({ kernels, requestedPriority = 0, ...session }) => ({
      ...compact(session),
      ...(requestedPriority > session.priority ? { requestedPriority } : {}),
      sessionId: `s${String(index).padStart(3, '0')}`,
      kernels: kernels.map((kernel, i) => ({
        ...kernel,
        kernelId: `k${index}-${i}`,
        role: i === 0 ? 'main' : 'sub',
        index: Math.max(1, i),
      })),
    })) as fc.Arbitrary<PendingSession>;

const running = (
  index: number,
): fc.Arbitrary<Omit<RunningSession, 'kernels' | 'resourceGroup'> & { want: ResourceSlots[] }> =>
  fc
    .record({
      owner,
      want: fc.array(slots(5), { minLength: 1, maxLength: 2 }),
      private: some(fc.boolean(), 8),
      jobPriority: some(fc.integer({ min: 0, max: 2 })),
      isPreemptible: some(fc.boolean(), 4),
      startedAt: some(fc.integer({ min: now - 5_000, max: now }), 4),
      timeLimitMs: some(fc.integer({ min: 1, max: 9_000 }), 3),
      ending: some(fc.boolean(), 8),
    })
    .map((session) => ({ ...compact(session), sessionId: `r${String(index).padStart(3, '0')}` })) as never;

const group = (name: string): fc.Arbitrary<ResourceGroup> =>
  fc
    .record({
      scheduler: some(fc.constantFrom(...schedulingPolicies)),
      selection: some(fc.constantFrom(...selectionStrategies)),
      roundRobin: some(fc.integer({ min: 0, max: 5 })),
      maxKernelsPerAgent: some(fc.integer({ min: 1, max: 6 }), 5),
      attemptsBeforeGivingUp: some(fc.integer({ min: 0, max: 4 })),
      restrictsEgress: some(fc.constant(true), 5),
    })
    .map((options) => ({ name, ...compact(options) }));

const quota: fc.Arbitrary<Quota> = fc
  .record({
    scope: fc.constantFrom(...quotaScopes),
    limits: slots(30),
    unlisted: some(fc.constantFrom('unlimited' as const, 'zero' as const)),
    maxSessions: some(fc.integer({ min: 0, max: 6 })),
    maxPrivateSessions: some(fc.integer({ min: 0, max: 3 })),
  })
  .chain((of) => fc.constantFrom('1', '2').map((n) => ({ ...compact(of), id: `${of.scope[0]}${n}` })));

const fairShares = fc.uniqueArray(
  fc.record({
    resourceGroup: fc.constantFrom(...groups),
    scope: fc.constantFrom('domain' as const, 'project' as const, 'user' as const),
    n: fc.constantFrom('1', '2', '3'),
    usage: fc.integer({ min: 0, max: 40 }).map((cpu) => ({ cpu: BigInt(cpu) * 86_400_000n })),
  }),
  { maxLength: 6, selector: ({ resourceGroup, scope, n }) => `${resourceGroup}${scope}${n}` },
);

export interface WorldOptions {
  readonly groups?: (name: string) => fc.Arbitrary<ResourceGroup>;
  /** All compete for the agents of one group, and nothing but room stands in their way. */
  readonly crowded?: boolean;
}

/** Clusters in which running sessions fit on their agents. */
export function snapshots({ groups: options = group, crowded = false }: WorldOptions = {}): fc.Arbitrary<Snapshot> {
  const least = crowded ? 2 : 0;
  return fc
    .record({
      groups: fc.tuple(...groups.map(options)),
      agents: many(5, agent, least).map((agents) => (crowded ? agents.map(inCrowd) : agents)),
      pending: many(10, pending, least).map((sessions) => (crowded ? sessions.map(plainly) : sessions)),
      running: many(8, running, 3 * least),
      quotas: crowded
        ? fc.constant([])
        : fc.uniqueArray(quota, { maxLength: 4, selector: ({ scope, id }) => `${scope}${id}` }),
      fairShares,
    })
    .map(({ fairShares: usage, ...rest }) => ({
      ...withRunning(rest as never),
      now,
      fairShares: usage.map(({ n, ...entry }) => ({ ...entry, id: `${entry.scope[0]}${n}` })),
    }));
}

function inCrowd(of: AgentSnapshot): AgentSnapshot {
  const { cpu = 0n, mem = 0n } = of.capacity;
  return {
    ...of,
    status: 'ALIVE',
    schedulable: true,
    resourceGroup: 'g1',
    architecture: 'x',
    enforcesEgress: true,
    images: ['i1', 'i2'].map((image) => imageKey(image, 'x')),
    capacity: { ...of.capacity, cpu: cpu + 2_000n, mem: mem + 4_000n },
  };
}

function plainly(session: PendingSession): PendingSession {
  const { dependencies, startsAt, notBefore, designated, ...rest } = session;
  const kernels = session.kernels.map(({ slots: { cpu = 0n, mem = 0n }, ...kernel }) => ({
    ...kernel,
    slots: { cpu, mem },
    architecture: 'x',
  }));
  return { ...rest, resourceGroup: 'g1', kernels, jobPriority: 3 };
}

/** Lays running sessions on the agents, as far as there is room. */
function withRunning(
  snapshot: Omit<Snapshot, 'now' | 'running'> & { running: Array<RunningSession & { want: ResourceSlots[] }> },
) {
  const agents = snapshot.agents.map((a) => ({ ...a, used: {} as Record<string, bigint> }));
  const placed: RunningSession[] = [];
  snapshot.running.forEach(({ want, ...session }, index) => {
    const home = agents[index % Math.max(1, agents.length)];
    if (!home) return;
    const kernels = want.flatMap((asked, i) => {
      const mates = agents.filter((a) => a.resourceGroup === home.resourceGroup);
      const on = mates[(index + i) % mates.length]!;
      const names = Object.keys(asked);
      if (names.some((name) => (on.used[name] ?? 0n) + asked[name]! > (on.capacity[name] ?? 0n))) return [];
      for (const name of names) on.used[name] = (on.used[name] ?? 0n) + asked[name]!;
      on.kernelCount = (on.kernelCount ?? 0) + 1;
      return [{ kernelId: `rk${index}-${i}`, agentId: on.id, slots: asked }];
    });
    if (kernels.length > 0) placed.push({ ...session, resourceGroup: home.resourceGroup, kernels });
  });
  return { ...snapshot, agents, running: placed };
}

/** Options of groups that backfill and preempt as well. */
export const everyOption = (name: string): fc.Arbitrary<ResourceGroup> =>
  fc
    .record({
      base: group(name),
      backfill: some(fc.boolean()),
      preemption: some(
        fc.record({
          enabled: fc.boolean(),
          order: some(fc.constantFrom(...preemptionOrders)),
          minRuntimeSec: some(fc.integer({ min: 0, max: 3 })),
          victimScope: some(fc.constantFrom(...victimScopes)),
          preemptiblePriority: some(fc.integer({ min: 0, max: 3 }), 2),
        }),
      ),
    })
    .map(({ base, backfill, preemption }) => ({
      ...base,
      ...compact({ backfill, preemption: preemption && compact(preemption) }),
    }));

/** The same facts, told in another order. */
export function shuffled(snapshot: Snapshot): Snapshot {
  const turn = <T>(list: readonly T[]): T[] => [...list].reverse();
  return {
    now: snapshot.now,
    fairShares: turn(snapshot.fairShares),
    quotas: turn(snapshot.quotas),
    running: turn(snapshot.running),
    pending: turn(snapshot.pending),
    agents: turn(snapshot.agents).map((a) => ({
      ...a,
      images: turn(a.images),
      ...(a.warmSlots ? { warmSlots: turn(a.warmSlots) } : {}),
    })),
    groups: turn(snapshot.groups),
  };
}
