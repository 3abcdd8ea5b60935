import { newId } from '@backend.ai/core';
import { parseSnapshot, schedule, serialiseSnapshot } from '@backend.ai/scheduler';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { addMember, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** Which session goes where, as resource groups say, on two agents of four cores. */

let world: World;

beforeAll(async () => {
  world = await createWorld();
  for (const id of ['i-one', 'i-two']) await world.addAgent(id, { slots: { cpu: '4', mem: '4294967296' } });
});
afterAll(() => world.close());
afterEach(async () => {
  await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000));
  await modify({ scheduler: 'fifo', options: {} });
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const modify = (values: object) =>
  inRequest(() =>
    world.manager.services.api.admin.resourceGroup.modify({ name: 'default', ...values } as never, world.ctx()),
  );
const create = async (cpu: number, input: Parameters<World['create']>[0] = {}): Promise<string> =>
  (await world.create({ resources: { cpu }, ...input })).id;
const agentOf = async (id: string): Promise<string | null> => (await world.until(id, 'RUNNING')).kernels[0]!.agent;
const waitsFor = (session: string, code: string) =>
  waitFor(
    async () => {
      const view = await world.manager.services.api.session.get({ session }, world.ctx());
      return view.status === 'PENDING' && view.reason.code === code;
    },
    { what: `${session} waits for ${code}` },
  );
const end = async (session: string): Promise<void> => {
  await inRequest(() => world.manager.services.api.session.destroy({ session, forced: false }, world.ctx()));
  await world.until(session, 'TERMINATED');
};

describe('the choice of the agent', () => {
  it.each([
    ['concentrated', true],
    ['dispersed', false],
    ['roundrobin', false],
  ])('follows %s', async (agentSelectionStrategy, together) => {
    await modify({ options: { agentSelectionStrategy } });
    const first = await agentOf(await create(1));
    const second = await agentOf(await create(1));
    expect(first === second).toBe(together);
  });

  it('keeps to agents that were named', async () => {
    for (const agent of ['i-one', 'i-two'])
      expect(await agentOf(await create(1, { designatedAgents: [agent] }))).toBe(agent);
  });

  it('brings a session that starts anew back to where it was, though another agent is emptier', async () => {
    const id = await create(1);
    const agent = await agentOf(id);
    expect(await agentOf(await create(2, { designatedAgents: [agent!] }))).toBe(agent);
    await inRequest(() => world.manager.services.api.session.restart({ session: id }, world.ctx()));
    await waitFor(
      async () => (await world.manager.services.api.session.history({ session: id }, world.ctx())).length > 7,
      { what: 'it starts again' },
    );
    expect(await agentOf(id)).toBe(agent);
  });
});

describe('the order of the queue', () => {
  it('is by priority, then by the policy of the group, also after it was changed', async () => {
    const holders = [await create(4), await create(4)];
    for (const id of holders) await world.until(id, 'RUNNING');
    const early = await create(4);
    const late = await create(4);
    const important = await create(4, { priority: 50 });
    await waitsFor(important, 'insufficient-resources');
    await modify({ scheduler: 'lifo' });
    await end(holders[0]!);
    await world.until(important, 'RUNNING');
    await end(holders[1]!);
    await world.until(late, 'RUNNING');
    await waitsFor(early, 'insufficient-resources');
  });

  it.each(['drf', 'fair-share'])('is by what users hold or used, under %s', async (scheduler) => {
    const { actor } = await addMember(world, 'default');
    await world.database.db.execute(sql`
      insert into project_members (project_id, user_id)
      select p.id, ${actor.userId}::uuid from projects p where p.name = 'default' on conflict do nothing`);
    await world.database.db.execute(sql`
      insert into usage_records (id, session_id, session_name, kernel_id, domain_name, project_id, user_id, access_key,
        resource_group, agent_id, slots, began_at, ended_at)
      select gen_random_uuid(), gen_random_uuid(), 's', gen_random_uuid(), 'default', p.id, u.id::uuid, 'k', 'default', 'i-one',
        jsonb_build_object('cpu', u.cpu), now() - interval '1 day', now()
      from projects p, (values (${world.admin.userId}::text, '4'), (${actor.userId}::text, '1')) u (id, cpu)
      where p.name = 'default'`);
    await modify({ scheduler });
    const holders = [await create(4), await create(4)];
    for (const id of holders) await world.until(id, 'RUNNING');
    const greedy = await create(4);
    const modest = await apiOf(world, actor)((api) => api.session.create({ image: 'python', resources: { cpu: 4 } }));
    await waitsFor(greedy, 'behind-head-of-line');
    await end(holders[0]!);
    await world.until(modest.session.id, 'RUNNING');
    await waitsFor(greedy, 'insufficient-resources');
  });

  it('lets small ones pass the first only where the group backfills and it is not delayed', async () => {
    const holder = await create(4, { designatedAgents: ['i-one'] });
    await world.until(holder, 'RUNNING');
    const other = await create(3, { designatedAgents: ['i-two'] });
    await world.until(other, 'RUNNING');
    const head = await create(4, { designatedAgents: ['i-one'] });
    await waitsFor(head, 'insufficient-resources');
    const small = await create(1);
    await waitsFor(small, 'behind-head-of-line');
    await modify({ options: { backfill: true } });
    expect(await agentOf(small)).toBe('i-two');
    await waitsFor(head, 'insufficient-resources');
  });
});

describe('an exported snapshot', () => {
  it('gives the same plan as the leader makes of it', async () => {
    for (const id of ['i-one', 'i-two'])
      await inRequest(() =>
        world.manager.services.api.admin.agent.modify({ id, schedulable: false, force: false }, world.ctx()),
      );
    const ids = [];
    for (const cpu of [2, 1, 3, 1]) ids.push(await create(cpu));
    for (const id of ids) await waitsFor(id, 'no-agent-alive');
    const exported = parseSnapshot(serialiseSnapshot(await world.manager.services.schedulerSnapshot()));
    const agents = exported.agents.map((agent) => ({ ...agent, schedulable: true }));
    const { placements } = schedule({ ...exported, agents });
    expect(placements.map(({ sessionId }) => sessionId)).toEqual(ids);
    await world.database.db.execute(sql`update agents set schedulable = true`);
    const placed = await Promise.all(ids.map(async (id) => [id, await agentOf(id)]));
    expect(placed).toEqual(placements.map(({ sessionId, kernels }) => [sessionId, kernels[0]!.agentId]));
  });
});
