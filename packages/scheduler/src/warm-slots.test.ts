import { addSlots, fits, parseResourceSlots } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyPlan, schedule } from './schedule.ts';
import { type AgentSnapshot, imageKey, type PendingSession, type Snapshot, type WarmSlot } from './snapshot.ts';
import { SchedulingState } from './state.ts';
import {
  explainPool,
  type PoolAgent,
  type PoolLimits,
  type PoolSlot,
  planWarmPools,
  type WarmPool,
} from './warm-pools.ts';

const slots = (cpu: number) => parseResourceSlots({ cpu });
const slot = (slotId: string, ready = true, key = 'python'): WarmSlot => ({ slotId, key, slots: slots(1), ready });

function agent(id: string, cpu: number, warmSlots: readonly WarmSlot[] = [], used = 0): PoolAgent {
  return {
    ...{ id, status: 'ALIVE', schedulable: true, resourceGroup: 'default', architecture: 'x' },
    images: [imageKey('python', 'x')],
    capacity: slots(cpu),
    used: slots(used),
    warmSlots,
    keepsWarmSlots: true,
  };
}

function session(sessionId: string, cpu = 1, more: Partial<PendingSession> = {}): PendingSession {
  return {
    ...{ sessionId, resourceGroup: 'default', createdAt: Number(sessionId), priority: 10, warmKey: 'python' },
    owner: { keypair: 'k', user: 'u', project: 'p', domain: 'd' },
    kernels: [
      { kernelId: `k${sessionId}`, role: 'main', index: 1, slots: slots(cpu), image: 'python', architecture: 'x' },
    ],
    ...more,
  };
}

function snapshot(agents: readonly AgentSnapshot[], pending: readonly PendingSession[]): Snapshot {
  return { now: 100, groups: [], agents, pending, running: [], quotas: [], fairShares: [] };
}

const placesOf = (of: Snapshot) =>
  schedule(of).placements.map(({ sessionId, kernels: [kernel] }) => [sessionId, kernel?.agentId, kernel?.warmSlot]);

describe('warm slots in a pass', () => {
  it('are taken by sessions that ask for exactly this, one by each, before any free room', () => {
    const agents = [agent('a', 8), agent('b', 4, [slot('w1'), slot('w2')])];
    expect(placesOf(snapshot(agents, [session('1'), session('2'), session('3')]))).toEqual([
      ['1', 'b', 'w1'],
      ['2', 'b', 'w2'],
      ['3', 'a', undefined],
    ]);
  });

  it('are not taken while they start, by others, by sessions of several kernels, or where an agent refused before', () => {
    const { kernels } = session('1');
    const two = { kernels: [...kernels, { ...kernels[0]!, kernelId: 'other', index: 2 }] };
    const agents = [agent('b', 4, [slot('w1'), slot('w2', false)]), agent('c', 1, [], 1)];
    const cases = [
      session('1', 1, { warmKey: 'node' }),
      session('1', 1, two),
      session('1', 1, { refusedBy: ['b'] }),
      session('1', 1, { designated: { agents: ['c'], mode: 'preferred' } }),
    ];
    for (const one of cases) expect(placesOf(snapshot(agents, [one]))).toEqual([['1', 'b', undefined]]);
    const starting = [agent('b', 4, [slot('w2', false)])];
    expect(placesOf(snapshot(starting, [session('1')]))).toEqual([['1', 'b', undefined]]);
  });

  it('keep their room while there is room elsewhere, and give way when there is none', () => {
    const agents = [agent('a', 4, [slot('w1'), slot('w2'), slot('w3')]), agent('b', 2)];
    const other = { warmKey: 'node' };
    expect(placesOf(snapshot(agents, [session('1', 2, other), session('2', 2, other)]))).toEqual([
      ['1', 'b', undefined],
      ['2', 'a', undefined],
    ]);
  });

  it('give way to a session that prefers their agent, though there is room elsewhere', () => {
    const agents = [agent('a', 2, [slot('w1'), slot('w2')]), agent('b', 8)];
    const again = session('1', 1, { warmKey: 'node', designated: { agents: ['a'], mode: 'preferred' } });
    expect(placesOf(snapshot(agents, [again]))).toEqual([['1', 'a', undefined]]);
  });

  it('never make a session wait: with them the same sessions start as without', () => {
    const agents = [agent('a', 4, [slot('w1'), slot('w2'), slot('w3'), slot('w4')])];
    const pending = [session('1', 3, { warmKey: 'node' }), session('2')];
    const bare = agents.map((one) => ({ ...one, warmSlots: [] }));
    const started = (of: Snapshot) => schedule(of).placements.map(({ sessionId }) => sessionId);
    expect(started(snapshot(agents, pending))).toEqual(started(snapshot(bare, pending)));
  });

  it('become the kernel of the session: the state goes on as the snapshot after the plan', () => {
    const before = snapshot([agent('a', 4, [slot('w1'), slot('w2')])], [session('1')]);
    const plan = schedule(before);
    const state = new SchedulingState(before);
    for (const placement of plan.placements) state.placed(placement, before.now);
    const after = applyPlan(before, plan);
    expect(state.snapshot(100)).toEqual(after);
    expect(after.agents[0]?.warmSlots?.map(({ slotId }) => slotId)).toEqual(['w2']);
    expect(after.running[0]?.kernels).toEqual([{ kernelId: 'w1', agentId: 'a', slots: slots(1) }]);
    expect(plan.placements[0]?.decision[0]?.warmSlot).toBe('w1');
  });

  it('that become ready make another plan', () => {
    const state = new SchedulingState(snapshot([agent('a', 4, [slot('w1', false)])], [session('1')]));
    expect(state.plan(100).placements[0]?.kernels[0]?.warmSlot).toBeUndefined();
    state.setAgent(agent('a', 4, [slot('w1')]));
    expect(state.plan(100).placements[0]?.kernels[0]?.warmSlot).toBe('w1');
  });
});

describe('warm pools', () => {
  const limits = { slots: 100, starting: 100 };
  const plan = (
    pools: readonly WarmPool[],
    agents: readonly PoolAgent[],
    present: readonly PoolSlot[],
    now: number,
    within: PoolLimits = limits,
  ) => planWarmPools(pools, agents, present, now, within);
  const pool = (size: number, more: Partial<WarmPool> = {}): WarmPool => ({
    ...{ poolId: 'p', resourceGroup: 'default', image: 'python', architecture: 'x', slots: slots(1), key: 'python' },
    size,
    ...more,
  });
  const held = (slotId: string, agentId: string, more: Partial<PoolSlot> = {}): PoolSlot => ({
    ...{ ...slot(slotId), poolId: 'p', agentId },
    ...more,
  });

  it('are filled evenly, as far as agents have room beside what they hold', () => {
    const agents = [agent('a', 2), agent('b', 4, [], 1), agent('c', 8, [], 8)];
    expect(plan([pool(9)], agents, [held('w', 'a')], 0)).toEqual({
      create: [
        { poolId: 'p', agentId: 'b' },
        { poolId: 'p', agentId: 'a' },
        { poolId: 'p', agentId: 'b' },
        { poolId: 'p', agentId: 'b' },
      ],
      remove: [],
    });
  });

  it('use only agents that are open, of the group and architecture, with the image, and that keep slots', () => {
    const off: Array<Partial<PoolAgent>> = [
      { status: 'LOST' },
      { schedulable: false },
      { resourceGroup: 'other' },
      { architecture: 'y' },
      { images: [] },
      { keepsWarmSlots: false },
    ];
    const agents = off.map((without, nth) => ({ ...agent(`a${nth}`, 4), ...without }));
    const slotsThere = agents.map(({ id }) => held(`w-${id}`, id));
    expect(plan([pool(9)], agents, slotsThere, 0)).toEqual({
      create: [],
      remove: slotsThere.map(({ slotId }) => slotId),
    });
  });

  it('lose what is too much, those first that nobody can take yet; what is of no use; and what has no pool', () => {
    const present = [held('w1', 'a', { ready: false }), held('w2', 'a'), held('w3', 'a', { key: 'older' })];
    const orphan = held('w4', 'a', { poolId: 'gone' });
    expect(plan([pool(1)], [agent('a', 8)], [...present, orphan], 0)).toEqual({
      create: [],
      remove: ['w1', 'w3', 'w4'],
    });
  });

  it('give up slots for which an agent has no room any more', () => {
    const present = [held('w1', 'a'), held('w2', 'a'), held('w3', 'a')];
    expect(plan([pool(3)], [agent('a', 4, [], 2)], present, 0)).toEqual({ create: [], remove: ['w3'] });
  });

  const failing = (...of: ReadonlyArray<readonly [agent: string, retryAt: number, failures?: number]>) => ({
    failing: new Map(of.map(([id, retryAt, failures = 1]) => [id, { retryAt, failures }])),
  });

  it('wait where slots failed, keep what they have there, and are filled by other agents meanwhile', () => {
    const waiting = pool(3, failing(['a', 50]));
    const agents = [agent('a', 8), agent('b', 8)];
    const present = [held('w', 'a')];
    expect(plan([waiting], [agents[0]!], present, 49)).toEqual({ create: [], remove: [] });
    expect(plan([waiting], agents, present, 49).create.map(({ agentId }) => agentId)).toEqual(['b', 'b']);
    expect(plan([waiting], [agents[0]!], present, 50).create).toHaveLength(2);
  });

  it('try agents on which slots failed only for what the others have no room for, the fewest failures first', () => {
    const agents = [agent('a', 8), agent('b', 8), agent('c', 2)];
    const { create } = plan([pool(4, failing(['a', 0, 3], ['b', 0, 2]))], agents, [], 10);
    expect(create.map(({ agentId }) => agentId)).toEqual(['c', 'c', 'b', 'b']);
  });

  it('start no more slots at a time on one agent than it may, of all pools together, and have no more there', () => {
    const agents = [agent('a', 50), agent('b', 50)];
    const both = [pool(9), pool(9, { poolId: 'q' })];
    const within = { slots: 5, starting: 2 };
    const present: PoolSlot[] = [];
    for (let round = 0; round < 9; round++) {
      const { create, remove } = plan(both, agents, present, 0, within);
      expect(remove).toEqual([]);
      for (const { id } of agents) {
        expect(create.filter(({ agentId }) => agentId === id).length).toBeLessThanOrEqual(2);
      }
      present.push(...create.map((one, nth) => ({ ...held(`w${round}-${nth}`, one.agentId), poolId: one.poolId })));
    }
    expect(present).toHaveLength(10);
    expect(plan(both, agents, present, 0, { ...within, slots: 3 }).remove).toHaveLength(4);
  });

  it('with an egress policy use only agents that enforce it', () => {
    const agents = [agent('a', 4), { ...agent('b', 4), enforcesEgress: true }];
    const { create, remove } = plan([pool(2, { restrictsEgress: true })], agents, [held('w', 'a')], 0);
    expect(create.map(({ agentId }) => agentId)).toEqual(['b', 'b']);
    expect(remove).toEqual(['w']);
  });

  it('tell what keeps each agent of their group from starting more, and nothing while none lacks', () => {
    const agents: PoolAgent[] = [
      { ...agent('closed', 4), schedulable: false },
      { ...agent('arch', 4), architecture: 'y' },
      { ...agent('processes', 4), keepsWarmSlots: false },
      { ...agent('image', 4), images: [] },
      ...[agent('waits', 4), agent('full', 4, [], 4), agent('busy', 8), agent('many', 20), agent('free', 4)],
      { ...agent('elsewhere', 4), resourceGroup: 'other' },
    ];
    const starting = [1, 2].map((nth) => held(`s${nth}`, 'busy', { ready: false }));
    const many = [1, 2, 3].map((nth) => held(`m${nth}`, 'many'));
    const within = { slots: 3, starting: 2 };
    const found = explainPool(pool(9, failing(['waits', 50])), agents, [...starting, ...many], 49, within);
    expect(Object.fromEntries(found)).toEqual({
      ...{ closed: ['closed'], 'other-architecture': ['arch'], 'keeps-no-slots': ['processes'] },
      ...{ 'image-missing': ['image'], failing: ['waits'], 'no-room': ['full'], 'starting-others': ['busy'] },
      'too-many-slots': ['many'],
    });
    expect(explainPool(pool(5), agents, [...starting, ...many], 49, within)).toEqual(new Map());
    const restricted = explainPool(pool(1, { restrictsEgress: true }), [agent('a', 4)], [], 0, within);
    expect(Object.fromEntries(restricted)).toEqual({ 'egress-policy': ['a'] });
  });

  it('whatever there is, a plan is carried out once, keeps to limits, and leaves reasons for all that is missing', () => {
    const anAgent = fc.record({ cpu: fc.nat(6), used: fc.nat(3), open: fc.boolean(), retryAt: fc.nat(20) });
    const aPool = fc.record({ size: fc.nat(6), cpu: fc.integer({ min: 1, max: 3 }) });
    const within = { slots: 4, starting: 2 };
    const check = (
      given: ReadonlyArray<{ cpu: number; used: number; open: boolean; retryAt: number }>,
      wished: ReadonlyArray<{ size: number; cpu: number }>,
    ): void => {
      const agents = given.map(({ cpu, used, open }, nth) => ({
        ...agent(`a${nth}`, cpu, [], used),
        schedulable: open,
      }));
      const failed = failing(...given.map(({ retryAt }, nth) => [`a${nth}`, retryAt] as const));
      const pools = wished.map(({ size, cpu }, nth) => pool(size, { poolId: `p${nth}`, slots: slots(cpu), ...failed }));
      const { create } = plan(pools, agents, [], 10, within);
      const made = create.map(({ poolId, agentId }, nth): PoolSlot => {
        const of = pools.find((each) => each.poolId === poolId)!;
        return { slotId: `w${nth}`, key: 'python', ready: false, slots: of.slots, poolId, agentId };
      });
      expect(plan(pools, agents, made, 10, within)).toEqual({ create: [], remove: [] });
      for (const one of agents) {
        const own = made.filter(({ agentId }) => agentId === one.id);
        expect(own.length).toBeLessThanOrEqual(within.starting);
        const holds = own.map((each) => each.slots).reduce(addSlots, one.used);
        if (own.length > 0) expect(fits(holds, one.capacity)).toBe(true);
      }
      for (const each of pools) {
        const lacks = made.filter(({ poolId }) => poolId === each.poolId).length < each.size;
        const told = [...explainPool(each, agents, made, 10, within).values()].flat().sort();
        expect(told).toEqual(lacks ? agents.map(({ id }) => id).sort() : []);
      }
    };
    fc.assert(fc.property(fc.array(anAgent, { maxLength: 4 }), fc.array(aPool, { maxLength: 3 }), check));
  });
});
