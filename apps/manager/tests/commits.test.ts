import type { AgentRegistration, CommittedImage, TaskView } from '@backend.ai/contract';
import { AppError, customizedImageName } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { apiOf, createTenants, type Tenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let tenants: Tenants;
let agent: FakeAgent;
let session: string;
let kernelId: string;

const image = (name: string): AgentRegistration['images'][number] => ({
  ...{ name, aliases: [], architecture: 'x86_64', language: 'python' },
  minSlots: { cpu: '1', mem: '67108864' },
});
const base = image('backend.ai/python:3.11');
/** As the agent has it once it was made. */
const own = (name: string) => image(customizedImageName(tenants.user.userId, name));

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-docker', { backend: 'docker', images: [base] });
  tenants = await createTenants(world);
  for (const [domain, members] of [
    ['ours', ['user', 'neighbour', 'ownAdmin']],
    ['theirs', ['foreignAdmin']],
  ] as const) {
    await by('superadmin')(async (api) => {
      await api.admin.project.create({ name: 'default', domain });
      const users = members.map((who) => tenants[who].email);
      await api.admin.project.addMembers({ project: 'default', domain, users });
    });
  }
  session = (await by('user')((api) => api.session.create({ image: base.name, name: 'origin' }))).session.id;
  kernelId = (await world.until(session, 'RUNNING')).kernels[0]!.id;
  await world.addAgent('i-other', { backend: 'docker', images: [base], slots: { cpu: '64', mem: '137438953472' } });
});
afterAll(() => world.close());

beforeEach(async () => {
  agent.commits.clear();
  agent.commitOrders.length = 0;
  await agent.offer([base]);
});

const by = (who: keyof Tenants) => apiOf(world, tenants[who]);
const commit = (name: string, who: keyof Tenants = 'user', ref = session) =>
  by(who)((api) => api.session.commit({ session: ref, image: name }));

async function outcome(taskId: string, who: keyof Tenants = 'user'): Promise<TaskView> {
  return await by(who)(async (api) => {
    let last: TaskView | undefined;
    for await (const view of await api.task.watch({ taskId })) last = view;
    return last!;
  });
}

/** The agent has the order and works on it. */
const ordered = () => waitFor(() => agent.commitOrders[0], { what: 'the order' });

async function finish(name: string): Promise<void> {
  const { image: ordering } = await ordered();
  await agent.offer([base, own(name)]);
  agent.commits.set(kernelId, { state: 'done', image: ordering, failure: null });
}

const listed = (who: keyof Tenants) =>
  by(who)(async (api) => (await api.image.list()).map(({ name, aliases }) => ({ name, aliases })));

describe('an image made of a session', () => {
  it('is its owner’s under the name that was given: nobody else sees it or can start it, superadmins see it', async () => {
    const { taskId, image: name } = await commit('tools');
    expect(name).toBe(own('tools').name);
    expect(await ordered()).toMatchObject({
      kernelId,
      image: name,
      labels: {
        'ai.backend.customized-image.owner': `user:${tenants.user.userId}`,
        'ai.backend.customized-image.user.email': tenants.user.email,
        'ai.backend.customized-image.name': 'tools',
      },
    });
    await finish('tools');
    const made = await outcome(taskId);
    expect(made).toMatchObject({ state: 'done', error: null });
    expect(made.result as CommittedImage).toMatchObject({ image: name, agent: 'i-docker' });
    expect(await listed('user')).toContainEqual({ name, aliases: expect.arrayContaining(['tools', 'tools:latest']) });
    expect((await listed('superadmin')).map((each) => each.name)).toContain(name);
    for (const who of ['neighbour', 'ownAdmin', 'foreignAdmin'] as const) {
      expect((await listed(who)).map((each) => each.name)).not.toContain(name);
      for (const ref of ['tools', name]) {
        const unknown = { code: 'unknown-image' };
        await expect(by(who)((api) => api.image.get({ image: ref }))).rejects.toMatchObject(unknown);
        const start = by(who)((api) => api.session.create({ image: ref, name: `stolen-${who}` }));
        await expect(start).rejects.toMatchObject(unknown);
        await start.catch((error: AppError) => expect(error.data?.known).not.toContain(name));
        await expect(by(who)((api) => api.image.delete({ image: ref }))).rejects.toMatchObject(unknown);
      }
      const { agents } = await by(who)((api) => api.cluster.status());
      expect(agents.flatMap(({ images }) => images)).not.toContain(name);
    }
  });

  it('starts on the agent that has it, and waits with that reason while that one takes none', async () => {
    const { taskId } = await commit('local:1');
    await finish('local:1');
    await outcome(taskId);
    const create = (name: string) => by('user')((api) => api.session.create({ image: 'local:1', name }));
    for (const name of ['there-1', 'there-2']) {
      const { session: made } = await create(name);
      expect((await world.until(made.id, 'RUNNING')).kernels[0]?.agent).toBe('i-docker');
    }
    await by('superadmin')((api) => api.admin.agent.modify({ id: 'i-docker', schedulable: false }));
    const { session: waiting } = await create('waiting');
    const explained = await waitFor(
      async () => {
        const found = await by('user')((api) => api.session.explain({ session: waiting.id }));
        return JSON.stringify(found).includes('No reachable agent offers the image') && found;
      },
      { what: 'the reason' },
    );
    expect(JSON.stringify(explained)).toContain('no-agent-with-image');
    await by('user')((api) => api.session.destroy({ session: waiting.id }));
    await by('superadmin')((api) => api.admin.agent.modify({ id: 'i-docker', schedulable: true }));
  });

  it('cannot take a name that means something else already, nor be named like a registry’s', async () => {
    for (const name of ['python:3.11', 'backend.ai/python', 'UPPER', 'a/b']) {
      const code = name === 'python:3.11' ? 'object-exists' : 'invalid-input';
      await agent.offer([{ ...base, aliases: ['python:3.11'] }, own('mine:1')]);
      await waitFor(async () => (await listed('user')).some(({ aliases }) => aliases.includes('mine:1')), {
        what: 'the offer',
      });
      await expect(commit(name)).rejects.toMatchObject({ code });
    }
    await expect(commit('mine:1')).rejects.toMatchObject({ code: 'object-exists' });
    expect(agent.commitOrders).toEqual([]);
  });

  it('counts towards the limit of its owner’s policy, whoever makes it', async () => {
    await agent.offer([base, own('one'), own('two'), own('three')]);
    await waitFor(async () => (await listed('user')).length === 4, { what: 'the offer' });
    for (const who of ['user', 'ownAdmin'] as const) {
      await expect(commit('four', who)).rejects.toMatchObject({
        code: 'quota-exceeded',
        data: { limit: 'max_customized_image_count' },
      });
    }
    const policy = { name: 'default', maxCustomizedImageCount: 0 };
    await by('superadmin')((api) => api.admin.resourcePolicy.user.modify(policy));
    await commit('four');
    await agent.offer([base, own('one'), own('two'), own('three'), own('four')]);
    agent.commits.set((await ordered()).kernelId, {
      state: 'done',
      image: own('four').name,
      failure: null,
    });
    await by('superadmin')((api) => api.admin.resourcePolicy.user.modify({ ...policy, maxCustomizedImageCount: 3 }));
    await waitFor(async () => (await listed('user')).length === 5, { what: 'the image' });
  });

  it('is one at a time for each owner, and its session tells that one is being made', async () => {
    const state = () => by('user')((api) => api.session.commitState({ session }));
    expect(await state()).toEqual({ state: 'ready', kernelId });
    const { taskId } = await waitFor(() => commit('first').catch(() => undefined), { what: 'the turn' });
    await ordered();
    expect(await state()).toEqual({ state: 'ongoing', kernelId });
    await expect(commit('second')).rejects.toMatchObject({ code: 'state-conflict' });
    await finish('first');
    expect((await outcome(taskId)).state).toBe('done');
    expect(await state()).toEqual({ state: 'ready', kernelId });
  });

  it('that could not be made says why, in the task', async () => {
    const { taskId } = await waitFor(() => commit('full').catch(() => undefined), { what: 'the turn' });
    const { image: name } = await ordered();
    const failure = new AppError('image-commit-failed', 'The disk is full.', { data: { reason: 'no-space' } }).toBody();
    agent.commits.set(kernelId, { state: 'failed', image: name, failure });
    expect(await outcome(taskId)).toMatchObject({
      state: 'failed',
      error: { code: 'image-commit-failed', data: { reason: 'no-space' } },
    });
    const again = await commit('full');
    await waitFor(() => agent.commitOrders[1], { what: 'the second order' });
    // As an agent that was started again meanwhile.
    agent.commits.clear();
    expect(await outcome(again.taskId)).toMatchObject({ state: 'failed', error: { code: 'image-commit-failed' } });
  });

  it('is made by its owner and administrators above, and the audit log names them', async () => {
    for (const who of ['neighbour', 'foreignAdmin'] as const) {
      await expect(commit('theirs', who)).rejects.toMatchObject({ code: 'session-not-found' });
    }
    const { taskId, image: name } = await commit('for-you', 'ownAdmin');
    expect(name).toBe(own('for-you').name);
    await finish('for-you');
    expect((await outcome(taskId, 'ownAdmin')).state).toBe('done');
    expect((await listed('user')).map((each) => each.name)).toContain(name);
    const { items } = await by('superadmin')((api) => api.admin.audit.list({ action: 'session:commit' }));
    expect(items.map(({ userId, outcome: how }) => [userId, how])).toEqual(
      expect.arrayContaining([
        [tenants.ownAdmin.userId, 'done'],
        [tenants.neighbour.userId, 'failed'],
      ]),
    );
  });

  it('is deleted by its owner from the agents that have it; other images are not', async () => {
    await agent.offer([base, own('old:1')]);
    await waitFor(async () => (await listed('user')).length === 2, { what: 'the offer' });
    await expect(by('user')((api) => api.image.delete({ image: base.name }))).rejects.toMatchObject({
      code: 'forbidden',
    });
    const report = await by('user')((api) => api.image.delete({ image: 'old:1' }));
    expect(report).toMatchObject({ image: own('old:1').name, agents: [{ agent: 'i-docker' }] });
    expect(agent.purges).toEqual([own('old:1').name]);
  });

  it('is not made of a session that runs as processes, or not at all', async () => {
    await world.addAgent('i-process', { images: [image('local/python:3.11')] });
    const { session: view } = await by('user')((api) =>
      api.session.create({ image: 'local/python:3.11', name: 'processes' }),
    );
    await world.until(view.id, 'RUNNING');
    await expect(commit('x', 'user', view.id)).rejects.toMatchObject({ code: 'unsupported-feature' });
    await by('user')((api) => api.session.destroy({ session: view.id }));
    await world.until(view.id, 'TERMINATED');
    await expect(commit('x', 'user', view.id)).rejects.toMatchObject({ code: 'session-not-running' });
  });
});
