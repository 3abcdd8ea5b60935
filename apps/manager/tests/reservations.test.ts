import type { SessionStatus } from '@backend.ai/core';
import type { DatabaseHandle } from '@backend.ai/database';
import { type Tenant, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { QueueRepository } from '../src/repositories/queue.ts';
import { SessionTransitions } from '../src/repositories/session-transitions.ts';
import { SessionRepository } from '../src/repositories/sessions.ts';
import { UsageRepository } from '../src/repositories/usage.ts';
import { elect, prepareLedger, registerAgent } from './ledger-world.ts';
import { newSession } from './new-session.ts';

/** Statements about sessions whose place others still hold. */

let handle: DatabaseHandle;
let transitions: SessionTransitions;
let sessions: SessionRepository;
let tenant: Tenant;
const epoch = 7;

beforeAll(async () => {
  handle = await testDatabase();
  transitions = new SessionTransitions(handle.db);
  sessions = new SessionRepository(handle.db);
  tenant = await prepareLedger(handle.db);
  await elect(handle.db, epoch);
  await registerAgent(handle.db, 'i-one', { cpu: '4', mem: '1000' });
});
afterAll(() => handle.close());
afterEach(async () => {
  expect(await verifyLedger(handle.db)).toEqual([]);
  await handle.db.execute(sql`delete from sessions`);
  await handle.db.execute(sql`update agent_resources set used = 0, prereserved = 0`);
});

interface Ids {
  readonly sessionId: string;
  readonly kernels: ReadonlyArray<{ readonly kernelId: string; readonly agentId: string }>;
}

async function insert(cpu: string, size = 1): Promise<Ids> {
  const { id: sessionId, kernels, ...session } = newSession(tenant, { slots: { cpu }, size });
  expect((await sessions.insert({ ...session, id: sessionId, kernels })).kind).toBe('created');
  return { sessionId, kernels: kernels.map(({ id }) => ({ kernelId: id, agentId: 'i-one' })) };
}
const place = async (ids: Ids): Promise<boolean> => (await transitions.place({ ...ids, epoch })).length > 0;
const reserve = (ids: Ids, victims: readonly Ids[], at = epoch) =>
  transitions.reserve({
    ...ids,
    victims: victims.map(({ sessionId }) => sessionId),
    mode: 'terminate',
    epoch: at,
  });
const admit = async ({ sessionId }: Ids): Promise<boolean> =>
  (await transitions.admit({ sessionId, epoch })).length > 0;
const move = ({ sessionId }: Ids, to: SessionStatus) =>
  transitions.apply({ target: { sessionId }, to, reason: 'progress' });
async function balance(): Promise<readonly [used: number, prereserved: number]> {
  const [row] = await handle.db.execute<{ used: number; held: number }>(
    sql`select used::float8 as used, prereserved::float8 as held from agent_resources where slot_name = 'cpu'`,
  );
  return [row!.used, row!.held];
}
const statusOf = async ({ sessionId }: Ids): Promise<string> =>
  (await handle.db.execute<{ status: string }>(sql`select status from sessions where id = ${sessionId}::uuid`))[0]!
    .status;

describe('a reservation', () => {
  it('is announced with its victims in one step, and becomes a placement when they have left', async () => {
    const [victim, other, waiting] = [await insert('3'), await insert('1'), await insert('2')];
    expect([await place(victim), await place(other)]).toEqual([true, true]);
    const moved = await reserve(waiting, [victim]);
    expect(moved.map(({ sessionId, from, to, agentId }) => [sessionId, from, to, agentId]).sort()).toEqual(
      [
        [waiting.sessionId, 'PENDING', 'RESERVED', 'i-one'],
        [victim.sessionId, 'PREPARING', 'PREEMPTED', 'i-one'],
      ].sort(),
    );
    expect(await balance()).toEqual([4, 2]);
    expect(await verifyLedger(handle.db)).toEqual([]);
    expect(await admit(waiting)).toBe(false);
    await move(victim, 'TERMINATING');
    expect(await admit(waiting)).toBe(false);
    await move(victim, 'ERROR');
    expect(await balance()).toEqual([1, 2]);
    expect([await admit(waiting), await admit(waiting)]).toEqual([true, false]);
    expect(await balance()).toEqual([3, 0]);
    expect((await sessions.history(waiting.sessionId)).map(({ toStatus }) => toStatus)).toEqual([
      'PENDING',
      'RESERVED',
      'SCHEDULED',
      'PREPARING',
    ]);
  });

  it('keeps the place that becomes free for itself', async () => {
    const [victim, waiting, late] = [await insert('4'), await insert('3'), await insert('2')];
    await place(victim);
    await reserve(waiting, [victim]);
    await move(victim, 'ERROR');
    expect(await place(late)).toBe(false);
    expect(await admit(waiting)).toBe(true);
    expect(await place(late)).toBe(false);
    expect(await place(await insert('1'))).toBe(true);
  });

  it('comes about only while everything is as it was when it was decided', async () => {
    const [victim, spared, waiting] = [await insert('2'), await insert('2'), await insert('3')];
    await place(victim);
    await place(spared);
    // Too little would become free; a leader of the past decides nothing; a victim that leaves already is none.
    expect(await reserve(waiting, [victim])).toEqual([]);
    expect(await reserve(waiting, [victim, spared], epoch - 1)).toEqual([]);
    await move(victim, 'TERMINATING');
    expect(await reserve(waiting, [victim, spared])).toEqual([]);
    expect([await statusOf(waiting), await statusOf(spared)]).toEqual(['PENDING', 'PREPARING']);
    expect(await balance()).toEqual([4, 0]);
    // What it held counts as leaving all the same.
    expect(await reserve(waiting, [spared])).toHaveLength(2);
    expect(await balance()).toEqual([4, 3]);
  });

  it('is given back whichever way the session goes, once', async () => {
    for (const to of ['PENDING', 'CANCELLED'] as const) {
      const [victim, waiting] = [await insert('2', 2), await insert('2', 2)];
      await place(victim);
      expect(await reserve(waiting, [victim])).toHaveLength(2);
      expect(await balance()).toEqual([4, 4]);
      expect(await move(waiting, to)).toHaveLength(1);
      expect(await move(waiting, to)).toEqual([]);
      expect(await balance()).toEqual([4, 0]);
      await move(victim, 'ERROR');
      expect(await balance()).toEqual([0, 0]);
      if (to === 'CANCELLED') continue;
      const [pending] = await new QueueRepository(handle.db).pending();
      const kernels = pending!.kernels.map(({ kernelId }) => ({ kernelId, agentId: 'i-one' }));
      expect(await place({ ...waiting, kernels })).toBe(true);
      expect(await balance()).toEqual([4, 0]);
      await move(waiting, 'ERROR');
    }
  });

  it('is used by nobody: what is announced is not in the records of usage', async () => {
    const [victim, waiting] = [await insert('4'), await insert('4')];
    await place(victim);
    await handle.db.execute(sql`delete from usage_records`);
    await reserve(waiting, [victim]);
    await handle.db.execute(sql`update resource_allocations set allocated_at = now() - interval '1 hour'`);
    const daily = await new UsageRepository(handle.db).dailyUsage(1);
    const { cpu } = daily.find(({ scope }) => scope === 'user')!.used;
    // An hour of four, and not of eight; the moments of the statements come on top.
    expect(Math.round(Number(cpu) / 3_600)).toBe(4);
    await move(waiting, 'CANCELLED');
    expect([...(await handle.db.execute(sql`select 1 from usage_records`))]).toEqual([]);
  });

  it('is not admitted where nothing may be placed any more', async () => {
    const victim = await insert('3');
    const waiting = await insert('3');
    await place(victim);
    await reserve(waiting, [victim]);
    await move(victim, 'ERROR');
    await handle.db.execute(sql`update agents set schedulable = false`);
    expect(await admit(waiting)).toBe(false);
    expect(await statusOf(waiting)).toBe('RESERVED');
    await handle.db.execute(sql`update agents set schedulable = true`);
    expect(await admit(waiting)).toBe(true);
  });
});
