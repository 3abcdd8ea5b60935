import { newId } from '@backend.ai/core';
import type { DatabaseHandle } from '@backend.ai/database';
import { type Tenant, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { SessionTransitions } from '../src/repositories/session-transitions.ts';
import { SessionRepository } from '../src/repositories/sessions.ts';
import { WarmPoolRepository } from '../src/repositories/warm-pools.ts';
import { elect, prepareLedger, registerAgent } from './ledger-world.ts';
import { newSession } from './new-session.ts';

/** Statements about warm slots, which are entries of the ledger that give way. */

let handle: DatabaseHandle;
let transitions: SessionTransitions;
let sessions: SessionRepository;
let pools: WarmPoolRepository;
let tenant: Tenant;
const epoch = 7;
const poolId = newId();
const backoff = { initialMs: 1_000, maxMs: 60_000 };

beforeAll(async () => {
  handle = await testDatabase();
  transitions = new SessionTransitions(handle.db);
  sessions = new SessionRepository(handle.db);
  pools = new WarmPoolRepository(handle.db);
  tenant = await prepareLedger(handle.db);
  await elect(handle.db, epoch);
  await registerAgent(handle.db, 'i-one', { cpu: '4' });
  await pools.create({
    ...{ id: poolId, name: 'pool', resourceGroup: 'default', image: 'i', architecture: 'x86_64' },
    ...{ slots: { cpu: '1' }, shmem: null, size: 4 },
  });
});
afterAll(() => handle.close());
afterEach(async () => {
  expect(await verifyLedger(handle.db)).toEqual([]);
  await empty();
});

async function empty(): Promise<void> {
  await handle.db.execute(sql`delete from sessions`);
  await handle.db.execute(sql`delete from warm_slots`);
  await handle.db.execute(sql`update agent_resources set used = 0, prereserved = 0`);
  await handle.db.execute(sql`delete from warm_pool_failures`);
  await handle.db.execute(sql`update resource_groups set options = '{}', egress = '{"policy": "open"}'`);
}

interface Ids {
  readonly sessionId: string;
  readonly kernelId: string;
}

async function insert(cpu: string): Promise<Ids> {
  const { id: sessionId, kernels, ...session } = newSession(tenant, { slots: { cpu } });
  expect((await sessions.insert({ ...session, id: sessionId, kernels })).kind).toBe('created');
  return { sessionId, kernelId: kernels[0]!.id };
}

async function place({ sessionId, kernelId }: Ids, warmSlot?: string): Promise<string | undefined> {
  const kernel = { kernelId, agentId: 'i-one', ...(warmSlot === undefined ? {} : { warmSlot }) };
  const [placed] = await transitions.place({ sessionId, kernels: [kernel], epoch });
  return placed?.kernelId;
}

async function makeSlots(count: number, ready = true): Promise<string[]> {
  const slots = Array.from({ length: count }, () => ({ id: newId(), poolId, agentId: 'i-one', origin: null }));
  await pools.reserve(slots, epoch);
  const made = (await present()).filter((id) => slots.some((slot) => slot.id === id));
  if (ready) await tell(made.map((slotId) => [slotId, 'ready']));
  return made;
}

const present = async (): Promise<string[]> => (await pools.slots()).map(({ id }) => id);
/** Of all slots that there are, those named and the others as they are. */
async function tell(states: ReadonlyArray<readonly [slotId: string, state: 'ready' | 'starting' | 'failed']>) {
  const named = new Map(states);
  const others = (await pools.slots())
    .filter(({ id }) => !named.has(id))
    .map(({ id, status }) => [id, status] as const);
  const error = { code: 'kernel-lost', message: 'gone' } as never;
  const reports = [...named, ...others].map(([slotId, state]) => ({
    ...{ slotId, state, slots: { cpu: '1' }, image: 'i' },
    ...(state === 'failed' ? { error } : {}),
  }));
  return await pools.tell('i-one', reports, backoff);
}

describe('a warm slot', () => {
  it('finds room beside all that its agent holds, or is not made', async () => {
    await place(await insert('2'));
    expect(await makeSlots(3)).toHaveLength(2);
    expect(await makeSlots(1)).toEqual([]);
    expect(await pools.reserve([{ id: newId(), poolId, agentId: 'i-one', origin: null }], epoch - 1)).toBe(0);
  });

  it('becomes the kernel of one session, under its own id; of two that want it the other one is left out', async () => {
    const [slotId = ''] = await makeSlots(1);
    const [one, two] = [await insert('1'), await insert('1')];
    const placed = await Promise.all([place(one, slotId), place(two, slotId)]);
    expect(placed.filter((kernelId) => kernelId === slotId)).toHaveLength(1);
    expect(placed).toContain(undefined);
    expect(await present()).toEqual([]);
    const kernels = await handle.db.execute(sql`select id from kernels where status = 'PREPARING'`);
    expect([...kernels]).toEqual([{ id: slotId }]);
  });

  it('is handed over in one statement with others, and only to as many as there are', async () => {
    const slots = await makeSlots(2);
    const all = await Promise.all(['1', '1', '1'].map(insert));
    const writes = all.map(({ sessionId, kernelId }, nth) => ({
      sessionId,
      kernels: [{ kernelId, agentId: 'i-one', warmSlot: slots[Math.min(nth, 1)]! }],
    }));
    const placed = await transitions.placeAll(writes.slice(0, 2), epoch);
    expect([...placed.values()].flat().map(({ kernelId, warmSlotsChanged }) => [kernelId, warmSlotsChanged])).toEqual([
      [slots[0], true],
      [slots[1], true],
    ]);
    expect(await transitions.placeAll(writes.slice(2), epoch)).toEqual(new Map());
  });

  it('is not handed over while it starts, at another agent, for other amounts, or by a leader of before', async () => {
    const [starting = ''] = await makeSlots(1, false);
    expect(await place(await insert('1'), starting)).toBeUndefined();
    await tell([[starting, 'ready']]);
    expect(await place(await insert('2'), starting)).toBeUndefined();
    const { sessionId, kernelId } = await insert('1');
    const kernels = [{ kernelId, agentId: 'i-one', warmSlot: starting }];
    expect(await transitions.place({ sessionId, kernels, epoch: epoch - 1 })).toEqual([]);
    await registerAgent(handle.db, 'i-two', { cpu: '4' });
    const elsewhere = [{ kernelId, agentId: 'i-two', warmSlot: starting }];
    expect(await transitions.place({ sessionId, kernels: elsewhere, epoch })).toEqual([]);
    expect(await present()).toEqual([starting]);
  });

  it.each([sql`egress = '{"policy": "none"}'`, sql`options = '{"allowFractionalResourceFragmentation": false}'`])(
    'that was made under other rules of its group is not handed over, however it is asked for',
    async (rule) => {
      const [slotId = ''] = await makeSlots(1);
      await handle.db.execute(sql`update resource_groups set ${rule}`);
      expect((await pools.slots()).map(({ isCurrent }) => isCurrent)).toEqual([false]);
      const session = await insert('1');
      expect(await place(session, slotId)).toBeUndefined();
      expect(await place(session)).toBe(session.kernelId);
      const [made = ''] = await makeSlots(1);
      expect(await place(await insert('1'), made)).toBe(made);
    },
  );

  it('gives way when there is no room beside it, one that is not ready first, and no more than have to', async () => {
    const ready = await makeSlots(3);
    await makeSlots(1, false);
    await place(await insert('2'));
    expect((await present()).sort()).toEqual(ready.slice(0, 2).sort());
    await place(await insert('2'));
    expect(await present()).toEqual([]);
  });

  it('gives way to what is announced for a session that waits for others to leave', async () => {
    const victim = await insert('2');
    await place(victim);
    await makeSlots(2);
    const { sessionId, kernelId } = await insert('3');
    const kernels = [{ kernelId, agentId: 'i-one' }];
    const moved = await transitions.reserve({
      ...{ sessionId, kernels, epoch, mode: 'terminate' },
      victims: [victim.sessionId],
    });
    expect(moved).toHaveLength(2);
    // There is room for one when the victim has left.
    expect(await present()).toHaveLength(1);
  });

  it('that failed or vanished is gone, and its pool waits longer with each that does', async () => {
    const [one = '', two = '', three = ''] = await makeSlots(3);
    await tell([[one, 'failed']]);
    const waits = async (): Promise<number> => {
      const [row] = await handle.db.execute<{ ms: number }>(
        sql`select extract(epoch from retry_at - now())::float8 * 1000 as ms from warm_pool_failures`,
      );
      return Math.ceil(row!.ms / 1_000);
    };
    expect(await waits()).toBe(1);
    await tell([[two, 'failed']]);
    expect(await waits()).toBe(2);
    expect(await pools.list()).toMatchObject([
      { failing: [{ agentId: 'i-one', failures: 2, error: { code: 'kernel-lost' } }] },
    ]);
    expect(await pools.tell('i-one', [], backoff)).toEqual({ changed: 1, failed: 1 });
    expect(await present()).not.toContain(three);
    await makeSlots(1);
    expect(await pools.list()).toMatchObject([{ failing: [] }]);
  });

  it('of another agent is not what an agent can tell of', async () => {
    const [slotId = ''] = await makeSlots(1);
    await registerAgent(handle.db, 'i-two', { cpu: '4' });
    await pools.tell('i-two', [{ slotId, state: 'failed', slots: {}, image: 'i' }], backoff);
    expect(await present()).toEqual([slotId]);
  });
});

it('whatever sessions and slots come and go, the ledger is sound and no session lacks room for a slot', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('place' as const), cpu: fc.integer({ min: 1, max: 3 }), warm: fc.boolean() }),
    fc.record({ kind: fc.constant('end' as const), nth: fc.nat(3) }),
    fc.record({ kind: fc.constant('fill' as const), count: fc.integer({ min: 1, max: 3 }), ready: fc.boolean() }),
    fc.record({ kind: fc.constant('lose' as const), nth: fc.nat(3) }),
  );
  const run = async (steps: ReadonlyArray<typeof step extends fc.Arbitrary<infer Step> ? Step : never>) => {
    await empty();
    const held: Array<{ sessionId: string; cpu: number }> = [];
    for (const each of steps) {
      if (each.kind === 'fill') await makeSlots(each.count, each.ready);
      else if (each.kind === 'lose') {
        const slotId = (await present())[each.nth];
        if (slotId !== undefined) await tell([[slotId, 'failed']]);
      } else if (each.kind === 'end') {
        const [session] = held.splice(each.nth, 1);
        const target = session && { sessionId: session.sessionId };
        if (target) expect(await transitions.apply({ target, to: 'ERROR', reason: 'start-failed' })).toHaveLength(1);
      } else {
        const ready = (await pools.slots()).find(({ status }) => status === 'ready');
        const ids = await insert(String(each.cpu));
        const room = 4 - held.reduce((sum, { cpu }) => sum + cpu, 0);
        const slot = each.warm && each.cpu === 1 ? ready?.id : undefined;
        const placed = await place(ids, slot);
        expect(placed).toBe(each.cpu <= room ? (slot ?? ids.kernelId) : undefined);
        if (placed) held.push({ sessionId: ids.sessionId, cpu: each.cpu });
      }
      expect(await verifyLedger(handle.db)).toEqual([]);
    }
  };
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 12 }), run), { numRuns: 20 });
}, 120_000);

it('a ledger with slots in the way, or with a slot that is a kernel, is told to be wrong', async () => {
  const ids = await insert('2');
  await place(ids);
  await handle.db.execute(sql`insert into warm_slots (id, pool_id, agent_id, slots)
    values (${ids.kernelId}::uuid, ${poolId}::uuid, 'i-one', '{"cpu": "3"}')`);
  const kinds = (await verifyLedger(handle.db)).map(({ kind }) => kind);
  expect(kinds.sort()).toEqual(['warm-slot-is-kernel', 'warm-slots-in-the-way']);
  await handle.db.execute(sql`delete from warm_slots`);
});
