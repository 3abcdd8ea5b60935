import { parseResourceSlots } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { applyPlan, schedule } from './schedule.ts';
import { type AgentSnapshot, imageKey, type PendingSession, type Snapshot, type WarmSlot } from './snapshot.ts';
import { SchedulingState } from './state.ts';
import { type PoolAgent, type PoolSlot, planWarmPools, type WarmPool } from './warm-pools.ts';

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
    expect(planWarmPools([pool(9)], agents, [held('w', 'a')], 0)).toEqual({
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
    expect(planWarmPools([pool(9)], agents, slotsThere, 0)).toEqual({
      create: [],
      remove: slotsThere.map(({ slotId }) => slotId),
    });
  });

  it('lose what is too much, those first that nobody can take yet; what is of no use; and what has no pool', () => {
    const present = [held('w1', 'a', { ready: false }), held('w2', 'a'), held('w3', 'a', { key: 'older' })];
    const orphan = held('w4', 'a', { poolId: 'gone' });
    expect(planWarmPools([pool(1)], [agent('a', 8)], [...present, orphan], 0)).toEqual({
      create: [],
      remove: ['w1', 'w3', 'w4'],
    });
  });

  it('give up slots for which an agent has no room any more', () => {
    const present = [held('w1', 'a'), held('w2', 'a'), held('w3', 'a')];
    expect(planWarmPools([pool(3)], [agent('a', 4, [], 2)], present, 0)).toEqual({ create: [], remove: ['w3'] });
  });

  it('wait after a failure, and keep what they have', () => {
    const waiting = pool(2, { retryAt: 50 });
    expect(planWarmPools([waiting], [agent('a', 8)], [held('w', 'a')], 49)).toEqual({ create: [], remove: [] });
    expect(planWarmPools([waiting], [agent('a', 8)], [held('w', 'a')], 50).create).toHaveLength(1);
  });
});
