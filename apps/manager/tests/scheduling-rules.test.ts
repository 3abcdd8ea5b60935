import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { QueueRepository } from '../src/repositories/queue.ts';
import { createWorld, type World } from './world.ts';

/** Options of resource groups and limits of policies are known to passes of the scheduler beforehand. */

let world: World;

beforeAll(async () => {
  world = await createWorld();
  await world.addAgent('i-one', { slots: { cpu: '4', mem: '4294967296' } });
});
afterAll(() => world.close());
afterEach(async () => {
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  await modify({ scheduler: 'fifo', options: {} });
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const modify = (values: object) =>
  runWithRequest({ requestId: newId() }, () =>
    world.manager.services.api.admin.resourceGroup.modify({ name: 'default', ...values } as never, world.ctx()),
  );
const waitingFor = (session: string, code: string) =>
  waitFor(
    async () => {
      const view = await world.manager.services.api.session.get({ session }, world.ctx());
      return view.status === 'PENDING' && view.reason.code === code && view;
    },
    { what: `${session} waits for ${code}` },
  );

describe('a pass of the scheduler', () => {
  it('serves the queue of a group in the order of its scheduler', async () => {
    await modify({ scheduler: 'lifo' });
    const { id: holder } = await world.create({ resources: { cpu: 4 } });
    await world.until(holder, 'RUNNING');
    const { id: earlier } = await world.create({ resources: { cpu: 4 } });
    const { id: later } = await world.create({ resources: { cpu: 4 } });
    await waitingFor(earlier, 'behind-head-of-line');
    await runWithRequest({ requestId: newId() }, () =>
      world.manager.services.api.session.destroy({ session: holder, forced: false }, world.ctx()),
    );
    await world.until(later, 'RUNNING');
    await waitingFor(earlier, 'insufficient-resources');
  });

  it('gives no agent more kernels than its group allows', async () => {
    await modify({ options: { maxKernelsPerAgent: 1 } });
    await world.until((await world.create({ resources: { cpu: 1 } })).id, 'RUNNING');
    const { id } = await world.create({ resources: { cpu: 1 } });
    expect((await waitingFor(id, 'kernel-limit-reached')).reason.data).toEqual({ limit: 1 });
    await modify({ options: {} });
    await world.until(id, 'RUNNING');
  });

  it('takes rules that were changed and changed back for others, as it may have read them in between', async () => {
    const queue = new QueueRepository(world.database.db);
    const limit = (sessions: number): Promise<unknown> =>
      world.database.db.execute(sql`update keypair_resource_policies set max_concurrent_sessions = ${sessions}`);
    await limit(0);
    const { rules: before } = await queue.marks();
    expect((await queue.marks()).rules).toBe(before);
    await limit(1);
    await limit(0);
    expect((await queue.marks()).rules).not.toBe(before);
  });

  it('leaves the place of a session beyond a limit to others', async () => {
    await world.database.db.execute(sql`update keypair_resource_policies set max_concurrent_sessions = 1`);
    await world.until((await world.create({ resources: { cpu: 1 } })).id, 'RUNNING');
    const { id } = await world.create({ resources: { cpu: 2 } });
    expect((await waitingFor(id, 'quota-exceeded')).reason.data).toMatchObject({
      violations: [{ scope: 'keypair', slot: 'sessions', asked: '1', used: '1', limit: '1' }],
    });
    await world.database.db.execute(sql`update keypair_resource_policies set max_concurrent_sessions = 0`);
    await world.until(id, 'RUNNING');
  });
});
