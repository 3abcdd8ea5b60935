import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

/** Sessions that make room for others, through the API. */

let world: World;
let agent: FakeAgent;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one', { slots: { cpu: '4', mem: '4294967296' } });
});
afterAll(() => world.close());
beforeEach(() => modify({ options: { preemption: { enabled: true } } }));
afterEach(async () => {
  agent.destroyBehaviour = 'end';
  await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000));
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const modify = (values: object) =>
  inRequest(() =>
    world.manager.services.api.admin.resourceGroup.modify({ name: 'default', ...values } as never, world.ctx()),
  );
const create = async (cpu: number, jobPriority: number, input: Parameters<World['create']>[0] = {}): Promise<string> =>
  (await world.create({ resources: { cpu }, jobPriority, ...input })).id;
const running = async (...given: Parameters<typeof create>): Promise<string> => {
  const id = await create(...given);
  await world.until(id, 'RUNNING');
  return id;
};
const statesOf = async (session: string) =>
  (await world.manager.services.api.session.history({ session }, world.ctx())).map(({ to }) => to);
const explain = (session: string) => world.manager.services.api.session.explain({ session }, world.ctx());
const reasonOf = async (session: string) =>
  (await world.manager.services.api.session.get({ session }, world.ctx())).reason.code;
const balance = async () =>
  (
    await world.database.db.execute<{ used: number; held: number }>(
      sql`select used::float8 as used, prereserved::float8 as held from agent_resources where slot_name = 'cpu'`,
    )
  )[0];

describe('a session of higher job priority', () => {
  it('takes the place of one that is ended for it, and of nobody without need', async () => {
    const victim = await running(3, 0, { name: 'the-victim' });
    const spared = await running(1, 0);
    const urgent = await running(2, 5, { name: 'the-urgent' });
    const ended = await world.until(victim, 'TERMINATED');
    expect(ended.reason.code).toBe('preempted');
    expect(await statesOf(victim)).toEqual(
      expect.arrayContaining(['RUNNING', 'PREEMPTED', 'TERMINATING', 'TERMINATED']),
    );
    expect(await statesOf(urgent)).toEqual(['PENDING', 'RESERVED', 'SCHEDULED', 'PREPARING', 'CREATING', 'RUNNING']);
    const { placement } = await explain(urgent);
    const [decision] = placement!.decisions;
    // Nothing was free: what it got was the victim's.
    expect(decision).toMatchObject({ agentId: 'i-one', strategy: 'dispersed', key: { free: { cpu: '0' } } });
    expect(decision!.freed).toMatchObject({ cpu: '3' });
    expect(placement!.victims).toEqual({ known: [{ id: victim, name: 'the-victim' }], others: 0 });
    const { headline, reasons } = await explain(victim);
    expect(headline).toContain('is TERMINATED: It made room for a session of higher priority: the-urgent.');
    expect(reasons.filter(({ code }) => code === 'preempted').map(({ message }) => message)).toEqual(
      expect.arrayContaining(['It made room for a session of higher priority: the-urgent.']),
    );
    const history = await world.manager.services.api.session.history({ session: urgent }, world.ctx());
    expect(history.find(({ to }) => to === 'RESERVED')?.reason.message).toContain(': the-victim.');
    // Ids of sessions that one may not know would stand in data of reasons.
    expect(history.find(({ to }) => to === 'RESERVED')?.reason.data).not.toHaveProperty('victims');
    expect(reasons.find(({ code }) => code === 'preempted')).not.toHaveProperty('data.by');
    const left = await world.manager.services.api.session.history({ session: victim }, world.ctx());
    expect(left.find(({ to }) => to === 'PREEMPTED')?.reason.data).toEqual({ mode: 'terminate' });
    expect((await world.manager.services.api.session.get({ session: spared }, world.ctx())).status).toBe('RUNNING');
    expect(await balance()).toEqual({ used: 3, held: 0 });
  });

  it('sends it back to the queue where the group wants that, from where it starts again under the same id', async () => {
    await modify({ options: { preemption: { enabled: true, mode: 'reschedule' } } });
    const victim = await running(3, 0);
    const urgent = await running(3, 5);
    await world.until(victim, 'PENDING');
    expect((await statesOf(victim)).slice(-3)).toEqual(['PREEMPTED', 'RESCHEDULING', 'PENDING']);
    await inRequest(() => world.manager.services.api.session.destroy({ session: urgent, forced: false }, world.ctx()));
    await world.until(victim, 'RUNNING');
  });

  it('waits like all others for those that are its equals, not preemptible, or in a group without preemption', async () => {
    const equal = await running(2, 5);
    await running(2, 0, { isPreemptible: false });
    const urgent = await create(2, 5);
    await waitFor(async () => (await reasonOf(urgent)) === 'insufficient-resources', { what: 'it waits' });
    await inRequest(() => world.manager.services.api.session.destroy({ session: equal, forced: false }, world.ctx()));
    await world.until(urgent, 'RUNNING');
    await modify({ options: {} });
    const later = await create(2, 9);
    await waitFor(async () => (await reasonOf(later)) === 'insufficient-resources', { what: 'it waits' });
    await modify({ options: { preemption: { enabled: true } } });
    await world.until(later, 'RUNNING');
    await world.until(urgent, 'TERMINATED');
  });
});

describe('what is said of preemption', () => {
  it('of a group is kept as it was structured, and of a session with it: both still count for the next manager', async () => {
    const preemption = { enabled: true, mode: 'reschedule', preemptiblePriority: 4, order: 'newest' } as const;
    await modify({ options: { preemption } });
    const kept = await running(2, 0, { isPreemptible: false });
    const victim = await running(2, 0);
    await world.restartManager();
    const [row] = await world.database.db.execute<{ type: string; mode: string }>(sql`
      select jsonb_typeof(options -> 'preemption') as type, options -> 'preemption' ->> 'mode' as mode
      from resource_groups where name = 'default'`);
    expect(row).toEqual({ type: 'object', mode: 'reschedule' });
    const { admin, session } = world.manager.services.api;
    const group = await admin.resourceGroup.get({ name: 'default' }, world.ctx());
    expect(group.options.preemption).toMatchObject(preemption);
    const flags = await Promise.all([kept, victim].map((id) => session.get({ session: id }, world.ctx())));
    expect(flags.map(({ options }) => options.isPreemptible)).toEqual([false, true]);
    // Both are of the lowest priority; only one may have to leave, and by the mode that was chosen.
    await running(2, 5);
    await world.until(victim, 'PENDING');
    const late = await create(2, 5);
    await waitFor(async () => (await reasonOf(late)) !== 'queued', { what: 'it was thought of' });
    const [waiting, stays] = await Promise.all([late, kept].map((id) => session.get({ session: id }, world.ctx())));
    expect([waiting?.status, stays?.status]).toEqual(['PENDING', 'RUNNING']);
  });
});

describe('a place for which others have to leave', () => {
  it('is kept by whoever leads next, and admits its session when they have left', async () => {
    const victim = await running(4, 0);
    agent.destroyBehaviour = 'ignore';
    const urgent = await create(4, 5);
    await world.until(urgent, 'RESERVED');
    await world.until(victim, 'TERMINATING');
    expect(await balance()).toEqual({ used: 4, held: 4 });
    const { reserved, headline, waiting } = await explain(urgent);
    expect(waiting).toBeNull();
    expect(reserved).toMatchObject({ mode: 'terminate', leaving: { known: [{ id: victim }] }, left: { known: [] } });
    // Ten minutes for the place, two for the victim to end.
    expect(Date.parse(reserved!.until) - Date.parse(reserved!.since)).toBe(600_000);
    expect(Date.parse(reserved!.expectedBy!) - Date.parse(reserved!.since)).toBeLessThan(130_000);
    expect(headline).toContain('One session still to leave it.');
    await world.restartManager();
    const late = await create(1, 0);
    await waitFor(async () => (await reasonOf(late)) === 'insufficient-resources', {
      what: 'nothing is free for others',
    });
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    agent.destroyBehaviour = 'end';
    await world.until(urgent, 'RUNNING');
    expect(await balance()).toEqual({ used: 4, held: 0 });
  });

  it('is given back when they do not leave in time, or nobody wants it any more', async () => {
    await running(4, 0);
    agent.destroyBehaviour = 'ignore';
    const urgent = await create(4, 5);
    await world.until(urgent, 'RESERVED');
    await world.expireDeadline(urgent);
    await waitFor(
      async () => (await statesOf(urgent)).includes('RESERVED') && (await reasonOf(urgent)) !== 'reserved',
      {
        what: 'it waits again',
      },
    );
    expect(await balance()).toMatchObject({ used: 4, held: 0 });
    await inRequest(() => world.manager.services.api.session.destroy({ session: urgent, forced: false }, world.ctx()));
    await world.until(urgent, 'CANCELLED');
  });

  it('is closed with its session when that is destroyed', async () => {
    await running(4, 0);
    agent.destroyBehaviour = 'ignore';
    const urgent = await create(4, 5);
    await world.until(urgent, 'RESERVED');
    await inRequest(() => world.manager.services.api.session.destroy({ session: urgent, forced: false }, world.ctx()));
    await world.until(urgent, 'CANCELLED');
    expect(await balance()).toMatchObject({ held: 0 });
  });
});
