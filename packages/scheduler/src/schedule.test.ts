import { fits, type ResourceSlots, statusReasons } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { explain } from './explain.ts';
import { applyPlan, inOrder, schedule } from './schedule.ts';
import { type AgentSnapshot, imageKey, type PendingSession, type Snapshot } from './snapshot.ts';

const owner = { keypair: 'k', user: 'u', project: 'p', domain: 'd' };

const slots = (max: number): fc.Arbitrary<ResourceSlots> =>
  fc.record({ cpu: fc.bigInt({ min: 0n, max: BigInt(max) }), mem: fc.bigInt({ min: 0n, max: BigInt(max) }) });

const agentArb = (id: string): fc.Arbitrary<AgentSnapshot> =>
  fc
    .record({
      status: fc.constantFrom('ALIVE' as const, 'ALIVE' as const, 'ALIVE' as const, 'LOST' as const),
      schedulable: fc.boolean().map((b) => b || id !== 'a0'),
      resourceGroup: fc.constantFrom('g1', 'g1', 'g2'),
      images: fc.subarray([imageKey('i1', 'x'), imageKey('i2', 'x')]),
      capacity: slots(20),
      used: slots(10),
    })
    .map(({ used, ...agent }) => {
      const within = { cpu: least(used.cpu, agent.capacity.cpu), mem: least(used.mem, agent.capacity.mem) };
      return { id, architecture: 'x', ...agent, used: within };
    });

function least(a = 0n, b = 0n): bigint {
  return a < b ? a : b;
}

const pendingArb = (index: number): fc.Arbitrary<PendingSession> =>
  fc
    .record({
      image: fc.constantFrom('i1', 'i2', 'i3'),
      resourceGroup: fc.constantFrom('g1', 'g2', 'g3'),
      slots: slots(8),
      createdAt: fc.integer({ min: 0, max: 5 }),
      priority: fc.constantFrom(0, 10),
      notBefore: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
      refusedBy: fc.constantFrom([], ['a0']),
    })
    .map(({ image, slots, notBefore, ...session }) => ({
      sessionId: `s${String(index).padStart(3, '0')}`,
      owner,
      kernels: [{ kernelId: `k${index}`, role: 'main', index: 1, slots, image, architecture: 'x' }],
      ...session,
      ...(notBefore === undefined ? {} : { notBefore }),
    }));

const snapshotArb: fc.Arbitrary<Snapshot> = fc.record({
  agents: fc
    .integer({ min: 0, max: 4 })
    .chain((n) => fc.tuple(...Array.from({ length: n }, (_, i) => agentArb(`a${i}`)))),
  pending: fc
    .integer({ min: 0, max: 12 })
    .chain((n) => fc.tuple(...Array.from({ length: n }, (_, i) => pendingArb(i)))),
  now: fc.constant(10),
  groups: fc.constant([]),
  running: fc.constant([]),
  quotas: fc.constant([]),
  fairShares: fc.constant([]),
});

describe('schedule', () => {
  it('never gives an agent more than it has', () => {
    fc.assert(
      fc.property(snapshotArb, (snapshot) => {
        for (const agent of applyPlan(snapshot, schedule(snapshot)).agents) {
          expect(fits(agent.used, agent.capacity)).toBe(true);
        }
      }),
    );
  });

  it('gives the same plan for the same snapshot in any order', () => {
    fc.assert(
      fc.property(snapshotArb, (snapshot) => {
        const turned = {
          ...snapshot,
          agents: [...snapshot.agents].reverse(),
          pending: [...snapshot.pending].reverse(),
        };
        expect(schedule(turned)).toEqual(schedule(snapshot));
      }),
    );
  });

  it('places each pending session once or gives a known reason', () => {
    fc.assert(
      fc.property(snapshotArb, (snapshot) => {
        const plan = schedule(snapshot);
        const placed = plan.placements.map((p) => p.sessionId);
        expect([...placed, ...plan.reasons.keys()].sort()).toEqual(snapshot.pending.map((s) => s.sessionId).sort());
        for (const reason of plan.reasons.values()) expect(statusReasons).toHaveProperty(reason.code);
      }),
    );
  });

  it('keeps the order among sessions that ask for the same', () => {
    fc.assert(
      fc.property(snapshotArb, (snapshot) => {
        const pending = snapshot.pending.map(({ sessionId, createdAt, priority }) => ({
          ...makePending(sessionId, { cpu: 3n }),
          createdAt,
          priority,
        }));
        const plan = schedule({ ...snapshot, pending });
        const order = inOrder(pending).map((session) => session.sessionId);
        expect(plan.placements.map((p) => p.sessionId)).toEqual(order.slice(0, plan.placements.length));
      }),
    );
  });

  it('gives a session only to an agent that is open, in its group and has its image', () => {
    fc.assert(
      fc.property(snapshotArb, (snapshot) => {
        for (const { sessionId, kernels } of schedule(snapshot).placements) {
          const agentId = kernels[0]?.agentId;
          const session = snapshot.pending.find((s) => s.sessionId === sessionId)!;
          const agent = snapshot.agents.find((a) => a.id === agentId)!;
          expect(explain(session, [agent])[0]!.obstacles).toEqual([]);
        }
      }),
    );
  });

  it('changes nothing more when a plan is carried out twice, and finds nothing more to place', () => {
    fc.assert(
      fc.property(snapshotArb, (snapshot) => {
        const plan = schedule(snapshot);
        const once = applyPlan(snapshot, plan);
        expect(applyPlan(once, plan)).toEqual(once);
        expect(schedule(once).placements).toEqual([]);
      }),
    );
  });

  it('lets a small session pass a large one that does not fit now', () => {
    const agent = makeAgent({ capacity: { cpu: 4000n }, used: { cpu: 2000n } });
    const plan = schedule({
      ...nothing,
      agents: [agent],
      pending: [
        makePending('s1', { cpu: 3000n }),
        makePending('s2', { cpu: 1000n }),
        makePending('s3', { cpu: 2000n }),
      ],
    });
    expect(plan.placements.map((p) => p.kernels)).toEqual([[{ kernelId: 'k-s2', agentId: 'a' }]]);
    expect(plan.reasons.get('s1')).toEqual({
      code: 'insufficient-resources',
      data: { lacking: { cpu: { asked: '3', mostFree: '2' } } },
    });
    expect(plan.reasons.get('s3')?.code).toBe('insufficient-resources');
  });

  it('tells apart no agent, none alive, none with the image', () => {
    const pending = [makePending('s1', { cpu: 1n })];
    const codeWith = (agents: AgentSnapshot[]) => schedule({ ...nothing, agents, pending }).reasons.get('s1')?.code;
    expect(codeWith([])).toBe('no-agent');
    expect(codeWith([makeAgent({ resourceGroup: 'other' })])).toBe('no-agent');
    expect(codeWith([makeAgent({ status: 'LOST' })])).toBe('no-agent-alive');
    expect(codeWith([makeAgent({ schedulable: false })])).toBe('no-agent-alive');
    expect(codeWith([makeAgent({ images: [] })])).toBe('no-agent-with-image');
  });

  it('tries an agent that refused only after the others', () => {
    const pending = [{ ...makePending('s1', { cpu: 1n }), refusedBy: ['a'] }];
    const both = schedule({ ...nothing, agents: [makeAgent({}), makeAgent({ id: 'b' })], pending });
    expect(both.placements[0]?.kernels[0]?.agentId).toBe('b');
    expect(schedule({ ...nothing, agents: [makeAgent({})], pending }).placements[0]?.kernels[0]?.agentId).toBe('a');
  });
});

const nothing = { now: 0, groups: [], agents: [], pending: [], running: [], quotas: [], fairShares: [] };

function makeAgent(over: Partial<AgentSnapshot>): AgentSnapshot {
  return {
    id: 'a',
    status: 'ALIVE',
    schedulable: true,
    resourceGroup: 'default',
    architecture: 'x',
    images: [imageKey('i', 'x')],
    capacity: { cpu: 4000n },
    used: {},
    ...over,
  };
}

function makePending(sessionId: string, wanted: ResourceSlots): PendingSession {
  return {
    sessionId,
    owner,
    kernels: [{ kernelId: `k-${sessionId}`, role: 'main', index: 1, slots: wanted, image: 'i', architecture: 'x' }],
    resourceGroup: 'default',
    createdAt: 0,
    priority: 10,
  };
}
