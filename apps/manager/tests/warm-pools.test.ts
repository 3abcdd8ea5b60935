import { agentFeatures, type CreateWarmPoolInput, resourceGroupOptionsSchema } from '@backend.ai/contract';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterEach, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
afterEach(async () => {
  // A slot that is made in the moment of a placement is in its way until the next look.
  await waitFor(async () => {
    expect(await world.manager.services.verifyLedger()).toEqual([]);
    return true;
  });
  await world.close();
});

const keeps = { features: [agentFeatures.warmSlots] };
const resources = { cpu: '1', mem: '256m' };
/** As `World.until`. */

const api = () => world.manager.services.api.admin.warmPool;
const makePool = (size: number, more: Partial<CreateWarmPoolInput> = {}) =>
  api().create(
    { name: 'python-small', resourceGroup: 'default', image: 'python', resources, size, ...more },
    world.ctx(),
  );
const pool = async () => (await api().list(world.ctx()))[0]!;
const untilReady = (count: number) =>
  waitFor(async () => (await pool()).ready === count, { what: `${count} slots that are ready` });
const warmOf = async (agent: FakeAgent) =>
  (await world.manager.services.api.admin.agent.get({ id: agent.id }, world.ctx())).warm;

async function emptyGroup(): Promise<string> {
  const { name } = await world.manager.services.api.admin.resourceGroup.create({ name: 'empty' } as never, world.ctx());
  return name;
}

async function poolOf(size: number, slots?: Record<string, string>): Promise<FakeAgent> {
  world = await createWorld();
  const agent = await world.addAgent('i-one', { ...keeps, ...(slots ? { slots } : {}) });
  await makePool(size);
  await untilReady(Math.min(size, 4));
  return agent;
}

describe('a warm pool', () => {
  it('has slots started at agents that can keep some, and counts what they hold beside what is in use', async () => {
    world = await createWorld();
    const [one, two, other] = await Promise.all([
      world.addAgent('i-one', keeps),
      world.addAgent('i-two', keeps),
      world.addAgent('i-other'),
    ]);
    const created = await makePool(3);
    expect(created).toMatchObject({ image: 'local/python:3.11', resources: { cpu: '1', mem: '268435456' }, size: 3 });
    await untilReady(3);
    expect([one.warmSlots.size, two.warmSlots.size].sort()).toEqual([1, 2]);
    expect(other.wishes).toEqual([]);
    expect((await pool()).agents).toEqual({ 'i-one': one.warmSlots.size, 'i-two': two.warmSlots.size });
    const { used } = await world.manager.services.api.cluster.status(world.ctx());
    expect(used).not.toMatchObject({ cpu: '3' });
    expect((await warmOf(one)).cpu).toBe(String(one.warmSlots.size));
  });

  it('hands a slot over to the session that asks for the same, whose kernel it is from then on, and is filled again', async () => {
    const agent = await poolOf(2);
    const ids = [...agent.warmSlots.keys()];
    const { id } = await world.create({ resources });
    const running = await world.until(id, 'RUNNING');
    const [kernelId] = agent.claims;
    expect(ids).toContain(kernelId);
    expect(running.kernels.map((kernel) => kernel.id)).toEqual([kernelId]);
    const explained = await world.manager.services.api.session.explain({ session: id }, world.ctx());
    expect(explained).toMatchObject({ placement: { decisions: [{ warmSlot: kernelId }] } });
    await untilReady(2);
    expect([...agent.warmSlots.keys()]).not.toContain(kernelId);
    await world.manager.services.api.session.destroy({ session: id, forced: false }, world.ctx());
    await world.until(id, 'TERMINATED');
    expect((await pool()).ready).toBe(2);
  });

  it('gives each slot to one of the sessions that come together', async () => {
    const agent = await poolOf(2);
    const sessions = await Promise.all([1, 2, 3, 4].map(() => world.create({ resources })));
    for (const { id } of sessions) await world.until(id, 'RUNNING');
    expect(new Set(agent.starts).size).toBe(4);
    expect(new Set(agent.claims).size).toBe(agent.claims.length);
    expect(agent.claims.length).toBeGreaterThanOrEqual(2);
  });

  it('is left alone by sessions that ask for something else, and by those that were started before', async () => {
    const agent = await poolOf(1);
    const bigger = await world.create({ resources: { ...resources, cpu: '2' } });
    await world.until(bigger.id, 'RUNNING');
    expect(agent.claims).toEqual([]);
    const { id } = await world.create({ resources });
    await world.until(id, 'RUNNING');
    await untilReady(1);
    await world.manager.services.api.session.restart({ session: id }, world.ctx());
    await waitFor(() => agent.starts.length === 3);
    await world.until(id, 'RUNNING');
    expect(agent.claims).toHaveLength(1);
  });

  it('makes room for sessions that need it, and is smaller for as long as they run', async () => {
    const agent = await poolOf(4);
    const { id } = await world.create({ resources: { cpu: '3', mem: '1g' } });
    await world.until(id, 'RUNNING');
    await waitFor(() => agent.warmSlots.size === 1);
    expect(agent.claims).toEqual([]);
    expect(await warmOf(agent)).toMatchObject({ cpu: '1' });
    await world.manager.services.api.session.destroy({ session: id, forced: false }, world.ctx());
    await untilReady(4);
  });

  it('lets a session start without the slot that had died before it was handed over', async () => {
    const agent = await poolOf(1);
    const [slotId = ''] = agent.warmSlots.keys();
    agent.warmBehaviour = 'ignore';
    await agent.loseSlot(slotId, false);
    const { id } = await world.create({ resources });
    await world.until(id, 'RUNNING');
    expect(agent.claims).toEqual([]);
    expect(agent.starts).toEqual([slotId]);
  });

  it('starts a session elsewhere, and not in a slot again, after an agent refused to hand one over', async () => {
    const agent = await poolOf(1);
    const other = await world.addAgent('i-other');
    agent.behaviour = 'refuse';
    const { id } = await world.create({ resources });
    await world.until(id, 'RUNNING');
    expect(new Set(agent.createCalls.map(({ kernelId }) => kernelId)).size).toBe(1);
    expect(other.starts).toHaveLength(1);
  });

  it('leaves a slot with its agent whose session has not been ordered there yet, though nobody wishes it any more', async () => {
    const agent = await poolOf(1);
    const [slotId = ''] = agent.warmSlots.keys();
    agent.behaviour = 'lose-order';
    const { id } = await world.create({ resources });
    await waitFor(() => agent.createCalls.length > 0);
    const told = agent.wishes.length;
    await api().modify({ name: 'python-small', size: 0 }, world.ctx());
    await waitFor(() => agent.wishes.slice(told).some((slots) => slots.length === 0));
    expect([...agent.warmSlots.keys()]).toEqual([slotId]);
    agent.behaviour = 'start';
    await world.until(id, 'RUNNING');
    expect(agent.claims).toEqual([slotId]);
  });

  it('waits after a slot that failed, tells why, and tries at once when it is changed', async () => {
    world = await createWorld();
    const agent = await world.addAgent('i-one', keeps);
    agent.warmBehaviour = 'fail';
    await makePool(1);
    const failed = await waitFor(async () => {
      const { failures, retryAt, lastError } = await pool();
      return failures > 0 && { retryAt, lastError };
    });
    expect(failed).toMatchObject({ lastError: { code: 'kernel-start-failed', message: agent.failure } });
    expect(Date.parse(failed.retryAt ?? '')).toBeGreaterThan(Date.now());
    const told = new Set(agent.wishes.flat().map(({ slotId }) => slotId)).size;
    await world.manager.services.settle();
    expect(new Set(agent.wishes.flat().map(({ slotId }) => slotId)).size).toBe(told);
    agent.warmBehaviour = 'ready';
    await api().modify({ name: 'python-small', size: 2 }, world.ctx());
    await untilReady(2);
    expect(await pool()).toMatchObject({ failures: 0, retryAt: null, lastError: null });
  });

  it('tries an agent again at its time, and not with the next look at everything', async () => {
    world = await createWorld({ config: { tickMs: 600_000 } });
    const agent = await world.addAgent('i-one', keeps);
    agent.warmBehaviour = 'fail';
    await makePool(1);
    await waitFor(async () => (await pool()).failures > 0);
    agent.warmBehaviour = 'ready';
    await untilReady(1);
  });

  it('replaces a slot that died', async () => {
    const agent = await poolOf(1);
    const [slotId = ''] = agent.warmSlots.keys();
    await agent.loseSlot(slotId);
    expect((await pool()).ready).toBe(0);
    await api().modify({ name: 'python-small', size: 1 }, world.ctx());
    await untilReady(1);
    expect([...agent.warmSlots.keys()]).not.toContain(slotId);
  });

  it('gives its slots up when it gets smaller, goes, or its agent is closed to new sessions', async () => {
    const agent = await poolOf(3);
    await api().modify({ name: 'python-small', size: 2 }, world.ctx());
    await waitFor(() => agent.warmSlots.size === 2);
    await world.manager.services.api.admin.agent.modify({ id: 'i-one', schedulable: false, force: false }, world.ctx());
    await waitFor(() => agent.warmSlots.size === 0);
    await world.manager.services.api.admin.agent.modify({ id: 'i-one', schedulable: true, force: false }, world.ctx());
    await untilReady(2);
    await api().delete({ name: 'python-small' }, world.ctx());
    await waitFor(() => agent.warmSlots.size === 0);
    expect(await api().list(world.ctx())).toEqual([]);
  });

  it('leaves no slot with an agent that finds one again when it is started anew', async () => {
    const agent = await poolOf(1);
    const [found] = [...agent.warmSlots];
    await api().delete({ name: 'python-small' }, world.ctx());
    await waitFor(() => agent.warmSlots.size === 0);
    await world.manager.services.settle();
    await agent.stop();
    if (found) agent.warmSlots.set(...found);
    await agent.start();
    await waitFor(() => agent.warmSlots.size === 0);
  });

  it('of a group that restricts calls is made anew, at agents that enforce that, and told to lack agents where none does', async () => {
    const agent = await poolOf(2);
    const { resourceGroup } = world.manager.services.api.admin;
    await resourceGroup.modify({ name: 'default', egress: { policy: 'none' } }, world.ctx());
    await waitFor(() => agent.warmSlots.size === 0);
    expect((await pool()).shortage).toEqual([{ code: 'egress-policy', agents: ['i-one'] }]);
    const guarded = await world.addAgent('i-guarded', { ...keeps, enforcesEgress: true });
    await untilReady(2);
    const [slot] = guarded.wishes.at(-1) ?? [];
    expect(slot?.egress).toEqual({ policy: 'none' });
    const { id } = await world.create({ resources });
    await world.until(id, 'RUNNING');
    expect(guarded.claims).toHaveLength(1);
  });

  it('has its slots made anew when its group begins to forbid scattered shares', async () => {
    const agent = await poolOf(1);
    const [before] = agent.warmSlots.keys();
    const options = resourceGroupOptionsSchema.parse({ allowFractionalResourceFragmentation: false });
    await world.manager.services.api.admin.resourceGroup.modify({ name: 'default', options }, world.ctx());
    await waitFor(() => agent.warmSlots.size === 1 && !agent.warmSlots.has(before ?? ''));
    expect(agent.wishes.at(-1)).toMatchObject([{ allowFractionalResourceFragmentation: false }]);
  });

  it('is filled by other agents while one fails, which is told', async () => {
    world = await createWorld();
    const failing = await world.addAgent('i-fails', keeps);
    failing.warmBehaviour = 'fail';
    const other = await world.addAgent('i-works', keeps);
    await makePool(3);
    await untilReady(3);
    expect(other.warmSlots.size).toBe(3);
    const { failing: told, shortage } = await pool();
    expect(told).toMatchObject([{ agent: 'i-fails', error: { message: failing.failure } }]);
    expect(shortage).toEqual([]);
  });

  it('forgets failures a while after their agent may be tried again, and counts from one when it fails after that', async () => {
    world = await createWorld();
    const agent = await world.addAgent('i-one', keeps);
    agent.warmBehaviour = 'stall';
    await makePool(1);
    await waitFor(() => agent.warmSlots.size === 1, { what: 'a slot that is being started' });
    await world.database.db.execute(sql`
      insert into warm_pool_failures (pool_id, agent_id, failures, retry_at)
      select p.id, 'i-one', 7, now() - interval '14 minutes' from warm_pools p`);
    expect((await pool()).failing).toMatchObject([{ agent: 'i-one', failures: 7 }]);
    await world.database.db.execute(sql`update warm_pool_failures set retry_at = now() - interval '16 minutes'`);
    expect(await pool()).toMatchObject({ failing: [], failures: 0, retryAt: null, lastError: null });
    const [slotId = ''] = agent.warmSlots.keys();
    await agent.loseSlot(slotId);
    expect((await pool()).failing).toMatchObject([{ agent: 'i-one', failures: 1 }]);
  });

  it('is filled at other agents while one hangs that is told its slots', async () => {
    world = await createWorld({ config: { orderDeadlineMs: 600_000 } });
    const hanging = await world.addAgent('i-hangs', keeps);
    hanging.warmBehaviour = 'hang';
    const other = await world.addAgent('i-works', keeps);
    await makePool(2);
    await waitFor(() => other.warmSlots.size === 1);
    await api().modify({ name: 'python-small', size: 4 }, world.ctx());
    await waitFor(() => other.warmSlots.size === 2);
    expect(hanging.wishes).toHaveLength(1);
  });

  it('tells why it has fewer slots than it is to have', async () => {
    world = await createWorld();
    await world.addAgent('i-processes');
    await makePool(9);
    await makePool(1, { name: 'elsewhere', resourceGroup: await emptyGroup() });
    expect((await api().list(world.ctx()))[0]).toMatchObject({
      name: 'elsewhere',
      shortage: [{ code: 'no-agents', agents: [] }],
    });
    await api().delete({ name: 'elsewhere' }, world.ctx());
    expect((await pool()).shortage).toEqual([{ code: 'keeps-no-slots', agents: ['i-processes'] }]);
    const small = await world.addAgent('i-small', { ...keeps, slots: { cpu: '1', mem: String(2 ** 30) } });
    await untilReady(1);
    const failing = await world.addAgent('i-fails', keeps);
    failing.warmBehaviour = 'fail';
    await api().modify({ name: 'python-small', size: 10 }, world.ctx());
    const { shortage } = await waitFor(async () => {
      const view = await pool();
      return view.failing.length > 0 && view.shortage.length === 3 && view;
    });
    expect(shortage).toEqual(
      expect.arrayContaining([
        { code: 'keeps-no-slots', agents: ['i-processes'] },
        { code: 'no-room', agents: [small.id] },
        { code: 'failing', agents: ['i-fails'] },
      ]),
    );
  });

  it('is kept by the manager that leads next, and slots are never handed over twice', async () => {
    const agent = await poolOf(2);
    const before = [...agent.warmSlots.keys()].sort();
    await agent.stop();
    await world.restartManager();
    await agent.start();
    const { id } = await world.create({ resources });
    await world.until(id, 'RUNNING');
    expect(before).toContain(agent.claims[0]);
    await untilReady(2);
    expect(new Set(agent.claims).size).toBe(agent.claims.length);
  });

  it('survives an agent that forgot its slots: they are started again', async () => {
    const agent = await poolOf(2);
    agent.warmSlots.clear();
    await agent.reportWarmSlots();
    await untilReady(2);
    expect(agent.warmSlots.size).toBe(2);
  });

  it('takes the amounts of a preset, and refuses what does not go together', async () => {
    world = await createWorld();
    await world.addAgent('i-one', keeps);
    await world.manager.services.api.admin.resourcePreset.create(
      { name: 'tiny', resourceGroup: null, resourceSlots: { cpu: '2', mem: '512m' }, sharedMemory: null },
      world.ctx(),
    );
    const { resources: _, ...input } = { resources, name: 'a', resourceGroup: 'default', image: 'python', size: 0 };
    expect(await api().create({ ...input, preset: 'tiny' }, world.ctx())).toMatchObject({
      resources: { cpu: '2', mem: '536870912' },
    });
    const refused = async (more: Partial<CreateWarmPoolInput>) =>
      await api()
        .create({ ...input, name: 'b', ...more }, world.ctx())
        .catch((error: { code: string }) => error.code);
    expect(await refused({ name: 'a' })).toBe('object-exists');
    expect(await refused({ preset: 'unheard-of' })).toBe('object-not-found');
    expect(await refused({ resourceGroup: 'unheard-of' })).toBe('object-not-found');
    expect(await refused({ image: 'unheard-of' })).toBe('unknown-image');
    expect(await refused({ resources: { cpu: '1000' } })).toBe('insufficient-capacity');
    await expect(api().modify({ name: 'none', size: 1 }, world.ctx())).rejects.toMatchObject({
      code: 'object-not-found',
    });
    await expect(api().delete({ name: 'none' }, world.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
  });
});
