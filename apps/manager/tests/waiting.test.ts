import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from './world.ts';

let world: World;

beforeAll(async () => {
  world = await createWorld({ config: { tickMs: 50 } });
  await world.addAgent('i-one', { slots: { cpu: '2', mem: '4294967296' } });
});
afterAll(() => world.close());
afterEach(async () => {
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const setPendingTimeout = (seconds: number) =>
  world.database.db.execute(
    sql`update resource_groups set options = options || jsonb_build_object('pendingTimeout', ${seconds}::int)`,
  );
const everyPassCounts = () =>
  runWithRequest({ requestId: newId() }, () =>
    world.manager.services.api.admin.resourceGroup.modify(
      { name: 'default', options: { attemptInterval: 0 } } as never,
      world.ctx(),
    ),
  );
const history = async (session: string) =>
  (await world.manager.services.api.session.history({ session }, world.ctx())).map(({ to, reason }) => [
    to,
    reason.code,
  ]);

it('what waits behind a session starts when that one is cancelled, without waiting for the next look', async () => {
  const hinted = await createWorld({ config: { tickMs: 600_000 } });
  try {
    await hinted.addAgent('i-one', { slots: { cpu: '3', mem: '4294967296' } });
    await hinted.until((await hinted.create({ resources: { cpu: 2 } })).id, 'RUNNING');
    const head = await hinted.create({ resources: { cpu: 2 } });
    const next = await hinted.create({ resources: { cpu: 1 } });
    await waitFor(
      async () => {
        const view = await hinted.manager.services.api.session.get({ session: next.id }, hinted.ctx());
        return view.reason.code === 'behind-head-of-line';
      },
      { what: 'it waits behind the head' },
    );
    const { api } = hinted.manager.services;
    await runWithRequest({ requestId: newId() }, () =>
      api.session.destroy({ session: head.id, forced: false }, hinted.ctx()),
    );
    await hinted.until(next.id, 'RUNNING');
  } finally {
    await hinted.close();
  }
});

it('attempts to place what waits count on under the next leader, and from zero with a lower priority', async () => {
  const slow = await createWorld({ config: { tickMs: 600_000 } });
  try {
    await slow.addAgent('i-one', { slots: { cpu: '2', mem: '4294967296' } });
    await slow.until((await slow.create({ resources: { cpu: 2 } })).id, 'RUNNING');
    const { id } = await slow.create({ resources: { cpu: 2 }, priority: 15 });
    const row = async () => {
      const [found] = await slow.database.db.execute<{ attempts: number; priority: number }>(
        sql`select placement_attempts as attempts, priority from sessions where id = ${id}::uuid`,
      );
      return found!;
    };
    await waitFor(async () => (await row()).attempts === 1, { what: 'the first attempt' });
    await slow.database.db.execute(sql`update sessions set placement_attempts = 4 where id = ${id}::uuid`);
    await slow.restartManager();
    await waitFor(async () => (await row()).priority === 5, { what: 'a lower priority at the fifth attempt' });
    await waitFor(async () => (await row()).attempts === 1, { what: 'the first attempt with it' });
  } finally {
    await slow.close();
  }
});

describe('a session that waits', () => {
  it('longer than its resource group allows is given up, also when no agent is alive', async () => {
    const { id: holder } = await world.create({ resources: { cpu: 2 } });
    await world.until(holder, 'RUNNING');
    await world.forgetHeartbeats('i-one');
    const { id } = await world.create({ resources: { cpu: 2 } });
    await setPendingTimeout(3_600);
    await world.database.db.execute(
      sql`update sessions set queued_at = now() - interval '2 hours' where id in (${id}::uuid, ${holder}::uuid)`,
    );
    expect((await world.until(id, 'CANCELLED')).reason.code).toBe('pending-timeout');
    expect((await world.manager.services.api.session.get({ session: holder }, world.ctx())).status).toBe('RUNNING');
    await setPendingTimeout(0);
  });

  it('at the head of the queue for many passes loses priority and not its place in the world', async () => {
    await everyPassCounts();
    await world.until((await world.create({ resources: { cpu: 2 } })).id, 'RUNNING');
    const { id } = await world.create({ resources: { cpu: 2 }, priority: 10 });
    const lowered = await waitFor(
      async () => {
        const view = await world.manager.services.api.session.get({ session: id }, world.ctx());
        return view.options.priority < 10 && view;
      },
      { what: 'a lower priority' },
    );
    // And stays so: nothing is lower.
    expect(lowered.options.priority).toBe(0);
    expect((await history(id)).slice(0, 3)).toEqual([
      ['PENDING', 'queued'],
      ['DEPRIORITIZING', 'deprioritized'],
      ['PENDING', 'deprioritized'],
    ]);
    const told = await world.manager.services.api.session.explain({ session: id }, world.ctx());
    expect(told.waiting?.priority).toEqual({ asked: 10, now: 0 });
    // Whoever asked for as much and came later finds it where it was.
    const later = await world.create({ resources: { cpu: 1 }, priority: 10 });
    await waitFor(
      async () => {
        const view = await world.manager.services.api.session.get({ session: later.id }, world.ctx());
        return view.reason.code === 'behind-head-of-line';
      },
      { what: 'it waits behind the head' },
    );
  });
});
