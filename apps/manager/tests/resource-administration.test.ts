import {
  type CallContext,
  checkPresetsSchema,
  createKeypairPolicySchema,
  createResourceGroupSchema,
} from '@backend.ai/contract';
import { newId, signRequest } from '@backend.ai/core';
import { createTenant, type Tenant, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let tenant: Tenant;
beforeAll(async () => {
  world = await createWorld({ http: { host: '127.0.0.1', port: 0 } });
  tenant = await createTenant(world.database.db);
});
afterAll(() => world.close());

const agents: FakeAgent[] = [];
const addAgent = async (id: string, options?: Parameters<World['addAgent']>[1]) => {
  const agent = await world.addAgent(id, options);
  agents.push(agent);
  return agent;
};
const api = () => world.manager.services.api;
/** A call of the tenant's user. */
const asUser = (): CallContext => {
  const { user, keypair, domain } = tenant;
  return {
    ...world.ctx(),
    actor: {
      kind: 'user',
      accessKey: keypair.accessKey,
      userId: user.id,
      email: user.email,
      role: 'user',
      domain: domain.name,
    },
  };
};
const policy = (name: string, fields: Record<string, unknown> = {}) =>
  createKeypairPolicySchema.parse({ name, ...fields });
const group = (name: string, fields: Record<string, unknown> = {}) =>
  createResourceGroupSchema.parse({ name, ...fields });

describe('a resource policy', () => {
  it('is created with sizes in bytes and all defaults, modified in parts, and deleted', async () => {
    const { keypair } = api().admin.resourcePolicy;
    const made = await keypair.create(
      policy('small', { totalResourceSlots: { cpu: 2, mem: '4g', 'cuda.device': 'inf', 'tpu.device': 0 } }),
      world.ctx(),
    );
    expect(made).toMatchObject({
      totalResourceSlots: { cpu: '2', mem: '4294967296', 'cuda.device': 'Infinity', 'tpu.device': '0' },
      defaultForUnspecified: 'UNLIMITED',
      maxConcurrentSessions: 0,
      idleTimeout: null,
    });
    const modified = await keypair.modify({ name: 'small', maxConcurrentSessions: 3, idleTimeout: 0 }, world.ctx());
    expect(modified).toEqual({ ...made, maxConcurrentSessions: 3, idleTimeout: 0 });
    expect((await keypair.list(world.ctx())).map(({ name }) => name)).toEqual(['default', 'small']);
    await keypair.delete({ name: 'small' }, world.ctx());
    await expect(keypair.get({ name: 'small' }, world.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('is refused twice, with amounts that are none, and while it is used or is the default', async () => {
    const { keypair, user, project } = api().admin.resourcePolicy;
    await keypair.create(policy('used'), world.ctx());
    await expect(keypair.create(policy('used'), world.ctx())).rejects.toMatchObject({ code: 'object-exists' });
    const wrong = policy('wrong', { totalResourceSlots: { cpu: 'many' } });
    await expect(keypair.create(wrong, world.ctx())).rejects.toMatchObject({ code: 'invalid-input' });
    await expect(keypair.modify({ name: 'absent' }, world.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
    await world.database.db.execute(
      sql`update keypairs set resource_policy = 'used' where access_key = ${tenant.keypair.accessKey}`,
    );
    await expect(keypair.delete({ name: 'used' }, world.ctx())).rejects.toMatchObject({ code: 'state-conflict' });
    for (const kind of [keypair, user, project]) {
      await expect(kind.delete({ name: 'default' }, world.ctx())).rejects.toMatchObject({ code: 'state-conflict' });
    }
    await world.database.db.execute(sql`update keypairs set resource_policy = 'default'`);
    await keypair.delete({ name: 'used' }, world.ctx());
  });

  it('is shown to those whom it is about', async () => {
    const { keypair, project } = api().admin.resourcePolicy;
    await keypair.create(policy('foreign'), world.ctx());
    expect((await keypair.list(asUser())).map(({ name }) => name)).toEqual(['default']);
    expect((await project.list(asUser())).map(({ name }) => name)).toEqual(['default']);
    await expect(keypair.get({ name: 'foreign' }, asUser())).rejects.toMatchObject({ code: 'object-not-found' });
    await keypair.delete({ name: 'foreign' }, world.ctx());
  });
});

describe('a session beyond a limit', () => {
  it('waits with the limits that it exceeds, and runs when they are raised', async () => {
    const { keypair } = api().admin.resourcePolicy;
    const { db } = world.database;
    await addAgent('i-limits');
    await keypair.create(policy('tight', { totalResourceSlots: { cpu: 1 } }), world.ctx());
    await db.execute(sql`update keypairs set resource_policy = 'tight' where access_key = ${world.admin.accessKey}`);
    const [first, second] = [await world.create(), await world.create()];
    await world.until(first.id, 'RUNNING');
    const reason = await waitFor(
      async () => {
        const view = await api().session.get({ session: second.id }, world.ctx());
        return view.reason.code === 'quota-exceeded' && view.reason;
      },
      { what: 'a reason' },
    );
    const id = world.admin.accessKey;
    expect(reason.data).toMatchObject({
      violations: [{ scope: 'keypair', id, slot: 'cpu', asked: '1', used: '1', limit: '1' }],
    });
    await keypair.modify({ name: 'tight', totalResourceSlots: { cpu: 2 } }, world.ctx());
    await world.until(second.id, 'RUNNING');
    await db.execute(sql`update keypairs set resource_policy = 'default'`);
    for (const { id: session } of [first, second]) await api().session.destroy({ session, forced: false }, world.ctx());
    for (const { id: session } of [first, second]) await world.until(session, 'TERMINATED');
  });
});

describe('a resource group', () => {
  const names = async (ctx: CallContext) => (await api().resourceGroup.list({}, ctx)).map(({ name }) => name);

  it('fills what its options do not say, keeps the rest as it is, and is the default alone', async () => {
    const { resourceGroup } = api().admin;
    const made = await resourceGroup.create(
      group('gpu', { isDefault: true, options: { preemption: { enabled: true }, pendingTimeout: 60 } }),
      world.ctx(),
    );
    expect(made.options).toMatchObject({
      pendingTimeout: 60,
      preemption: { enabled: true, order: 'oldest', victimScope: 'user' },
      allowedSessionTypes: expect.arrayContaining(['interactive']),
    });
    expect(await resourceGroup.modify({ name: 'gpu', scheduler: 'drf' }, world.ctx())).toEqual({
      ...made,
      scheduler: 'drf',
    });
    await resourceGroup.create(group('other', { isDefault: true }), world.ctx());
    expect((await resourceGroup.get({ name: 'gpu' }, world.ctx())).isDefault).toBe(false);
    await expect(resourceGroup.create(group('gpu'), world.ctx())).rejects.toMatchObject({ code: 'object-exists' });
    await resourceGroup.delete({ name: 'other' }, world.ctx());
    await resourceGroup.delete({ name: 'gpu' }, world.ctx());
    await expect(resourceGroup.delete({ name: 'gpu' }, world.ctx())).rejects.toMatchObject({
      code: 'object-not-found',
    });
  });

  it('that is not public is for the domain, project or key pair that it is allowed to', async () => {
    const { resourceGroup } = api().admin;
    await resourceGroup.create(group('private', { isPublic: false }), world.ctx());
    expect(await names(asUser())).toEqual(['default']);
    const { domain, project, keypair } = tenant;
    for (const to of [{ domain: domain.name }, { project: project.id }, { accessKey: keypair.accessKey }]) {
      await resourceGroup.allow({ name: 'private', to }, world.ctx());
      expect(await names(asUser())).toEqual(['default', 'private']);
      expect(await names(world.ctx())).toEqual(['default', ...('project' in to ? ['private'] : [])]);
      await resourceGroup.disallow({ name: 'private', to }, world.ctx());
      expect(await names(asUser())).toEqual(['default']);
    }
    const nobody = { name: 'private', to: { domain: 'absent' } };
    await expect(resourceGroup.allow(nobody, world.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
    await resourceGroup.modify({ name: 'private', isPublic: true, isActive: false }, world.ctx());
    expect(await names(asUser())).toEqual(['default']);
    await resourceGroup.delete({ name: 'private' }, world.ctx());
  });

  it('takes sessions of those who may use it and of its types only', async () => {
    const { resourceGroup } = api().admin;
    await resourceGroup.create(
      group('closed', { isPublic: false, options: { allowedSessionTypes: ['batch'] } }),
      world.ctx(),
    );
    await addAgent('i-closed');
    const create = () => world.create({ name: `s-${newId()}`, resourceGroup: 'closed' });
    await expect(create()).rejects.toMatchObject({
      code: 'invalid-input',
      data: { fields: { resourceGroup: expect.any(String) } },
    });
    await resourceGroup.allow({ name: 'closed', to: { accessKey: world.admin.accessKey } }, world.ctx());
    await expect(create()).rejects.toMatchObject({ code: 'invalid-input' });
    const options = (await resourceGroup.get({ name: 'closed' }, world.ctx())).options;
    await resourceGroup.modify(
      { name: 'closed', options: { ...options, allowedSessionTypes: ['interactive'] } },
      world.ctx(),
    );
    const session = await create();
    expect(session.resourceGroup).toBe('closed');
    await expect(resourceGroup.delete({ name: 'closed' }, world.ctx())).rejects.toMatchObject({
      code: 'state-conflict',
    });
    await api().session.destroy({ session: session.id, forced: true }, world.ctx());
    await world.until(session.id, 'CANCELLED');
    await resourceGroup.delete({ name: 'closed' }, world.ctx());
  });
});

describe('the egress policy of a resource group', () => {
  it('is told to agents with every kernel that starts from then on, unless it is open', async () => {
    const { resourceGroup, agent: agents } = api().admin;
    const none = { policy: 'none' } as const;
    const list = { policy: 'allow-list' as const, allow: [{ to: '10.0.0.0/8', ports: ['443'] }] };
    expect((await resourceGroup.create(group('fenced'), world.ctx())).egress).toEqual({ policy: 'open' });
    const agent = await addAgent('i-fenced', { enforcesEgress: true });
    await agents.modify({ id: 'i-fenced', resourceGroup: 'fenced', force: false }, world.ctx());
    const egressOf = async () => {
      const session = await world.create({ name: `s-${newId()}`, resourceGroup: 'fenced' });
      await world.until(session.id, 'RUNNING');
      return [...agent.kernels.values()].find(({ spec }) => spec.sessionId === session.id)?.spec.egress;
    };
    expect(await egressOf()).toBeUndefined();
    expect((await resourceGroup.modify({ name: 'fenced', egress: list }, world.ctx())).egress).toEqual(list);
    expect(await egressOf()).toEqual(list);
    // Options, which are replaced as a whole, do not open it.
    await resourceGroup.modify({ name: 'fenced', options: group('plain').options }, world.ctx());
    expect(await egressOf()).toEqual(list);
    await resourceGroup.modify({ name: 'fenced', egress: none }, world.ctx());
    expect(await egressOf()).toEqual(none);
    expect([...agent.kernels.values()].map(({ spec, state }) => [spec.egress?.policy, state])).toEqual([
      [undefined, 'running'],
      ['allow-list', 'running'],
      ['allow-list', 'running'],
      ['none', 'running'],
    ]);
    await agents.modify({ id: 'i-fenced', resourceGroup: 'default', force: true, schedulable: false }, world.ctx());
    await resourceGroup.modify({ name: 'fenced', isActive: false }, world.ctx());
  });
});

describe('an agent', () => {
  it('stays in the group that an administrator chose when it registers again', async () => {
    const { agent: agents, resourceGroup } = api().admin;
    await resourceGroup.create(group('chosen'), world.ctx());
    const agent = await addAgent('i-moved');
    expect(await agents.modify({ id: 'i-moved', resourceGroup: 'chosen', force: false }, world.ctx())).toMatchObject({
      resourceGroup: 'chosen',
      kernels: 0,
    });
    await agent.api.register.mutate(agent.registration);
    expect((await agents.get({ id: 'i-moved' }, world.ctx())).resourceGroup).toBe('chosen');
    const absent = { id: 'i-moved', resourceGroup: 'absent', force: false };
    await expect(agents.modify(absent, world.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('with kernels is moved only by force, which ends their sessions, and can be kept from new ones', async () => {
    const { agent: agents, resourceGroup } = api().admin;
    await resourceGroup.create(group('busy'), world.ctx());
    await addAgent('i-busy');
    await agents.modify({ id: 'i-busy', resourceGroup: 'busy', force: false }, world.ctx());
    const session = await world.create({ name: `s-${newId()}`, resourceGroup: 'busy' });
    await world.until(session.id, 'RUNNING');
    const move = { id: 'i-busy', resourceGroup: 'default' };
    await expect(agents.modify({ ...move, force: false }, world.ctx())).rejects.toMatchObject({
      code: 'state-conflict',
    });
    expect((await agents.get({ id: 'i-busy' }, world.ctx())).resourceGroup).toBe('busy');
    expect(await agents.modify({ id: 'i-busy', schedulable: false, force: false }, world.ctx())).toMatchObject({
      schedulable: false,
      kernels: 1,
    });
    expect(await agents.modify({ ...move, force: true }, world.ctx())).toMatchObject({ resourceGroup: 'default' });
    await world.until(session.id, 'TERMINATED');
    expect((await agents.list({ resourceGroup: 'default' }, world.ctx())).map(({ id }) => id)).toContain('i-busy');
  });
});

describe('changes', () => {
  it('leave rows in the audit log, refused ones too', async () => {
    const { resourceGroup } = api().admin;
    await resourceGroup.create(group('audited'), world.ctx());
    await expect(resourceGroup.create(group('audited'), world.ctx())).rejects.toMatchObject({ code: 'object-exists' });
    await resourceGroup.get({ name: 'audited' }, world.ctx());
    const rows = await world.database.db.execute(sql`
      select action, target_kind as kind, access_key as "accessKey", outcome, error_code as code
      from audit_log where target_id = 'audited' order by at`);
    const row = { action: 'resource-group:modify', kind: 'resource-group', accessKey: world.admin.accessKey };
    expect([...rows]).toEqual([
      { ...row, outcome: 'done', code: null },
      { ...row, outcome: 'failed', code: 'object-exists' },
    ]);
  });
});

describe('the official endpoints', () => {
  async function send(method: 'GET' | 'POST', target: string): Promise<Record<string, unknown>> {
    const url = new URL(target, world.manager.addresses.api);
    const date = new Date().toISOString();
    const [version, contentType] = ['v7.20230615', 'application/json'];
    const day = date.slice(0, 10).replaceAll('-', '');
    const signed = { method, target: url.pathname + url.search, date, day, host: url.host, contentType, version };
    const signature = signRequest(world.adminSecret, signed);
    const answer = await fetch(url, {
      method,
      headers: {
        authorization: `BackendAI signMethod=HMAC-SHA256, credential=${world.admin.accessKey}:${signature}`,
        'content-type': contentType,
        'x-backendai-version': version,
        'x-backendai-date': date,
      },
    });
    return (await answer.json()) as Record<string, unknown>;
  }

  it('tell groups, presets, and what is left of limits', async () => {
    const { resourcePreset, resourceGroup } = api().admin;
    await resourceGroup.create(group('rest'), world.ctx());
    await addAgent('i-rest');
    await api().admin.agent.modify({ id: 'i-rest', resourceGroup: 'rest', force: false }, world.ctx());
    const slots = { name: 'shared', resourceGroup: 'rest', resourceSlots: { cpu: 2, mem: '1g' } };
    const { id } = await resourcePreset.create({ ...slots, sharedMemory: 65_536 }, world.ctx());
    const { scaling_groups } = await send('GET', '/scaling-groups?group=default');
    expect(scaling_groups).toContainEqual({ name: 'rest' });
    const preset = { name: 'shared', shared_memory: '65536', resource_slots: { cpu: '2', mem: '1073741824' } };
    expect(await send('GET', '/resource/presets')).toEqual({ presets: [] });
    expect(await send('GET', '/resource/presets?scaling_group=rest')).toEqual({ presets: [preset] });
    expect(await send('POST', '/resource/check-presets?scaling_group=rest')).toMatchObject({
      keypair_limits: { cpu: 'Infinity' },
      keypair_remaining: { cpu: 'Infinity' },
      group_limits: { mem: 'Infinity' },
      scaling_group_remaining: { cpu: '4', mem: '4294967296' },
      scaling_groups: { rest: { using: { cpu: '0', mem: '0' }, remaining: { cpu: '4' } } },
      presets: [{ ...preset, allocatable: true }],
    });
    expect(await send('GET', '/scaling-groups?group=absent')).toMatchObject({ error_code: 'object-not-found' });
    await resourcePreset.delete({ id }, world.ctx());
  });
});

describe('a preset', () => {
  it('has a name once for all groups and once in each, and goes with its group', async () => {
    const { resourcePreset, resourceGroup } = api().admin;
    await resourceGroup.create(group('special'), world.ctx());
    const preset = { name: 'tiny', resourceGroup: null, resourceSlots: { cpu: 1, mem: '256m' }, sharedMemory: null };
    const made = await resourcePreset.create(preset, world.ctx());
    expect(made.resourceSlots).toEqual({ cpu: '1', mem: '268435456' });
    await expect(resourcePreset.create(preset, world.ctx())).rejects.toMatchObject({ code: 'object-exists' });
    await resourcePreset.create({ ...preset, resourceGroup: 'special' }, world.ctx());
    const nowhere = { ...preset, resourceGroup: 'absent' };
    await expect(resourcePreset.create(nowhere, world.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
    expect(await resourcePreset.modify({ id: made.id, sharedMemory: 65_536 }, world.ctx())).toEqual({
      ...made,
      sharedMemory: 65_536,
    });
    expect(await api().resourcePreset.list({ resourceGroup: 'special' }, asUser())).toHaveLength(2);
    await resourceGroup.delete({ name: 'special' }, world.ctx());
    expect(await resourcePreset.list(world.ctx())).toHaveLength(1);
    await resourcePreset.delete({ id: made.id }, world.ctx());
    await expect(resourcePreset.delete({ id: made.id }, world.ctx())).rejects.toMatchObject({
      code: 'object-not-found',
    });
  });

  it('is allocatable while an agent that is ALIVE has room for it', async () => {
    const { resourcePreset } = api().admin;
    const { id } = await resourcePreset.create(
      { name: 'one', resourceGroup: null, resourceSlots: { cpu: 1 }, sharedMemory: null },
      world.ctx(),
    );
    const check = () => api().resourcePreset.check(checkPresetsSchema.parse({ resourceGroup: 'default' }), world.ctx());
    const { db } = world.database;
    await db.execute(sql`update agents set schedulable = true`);
    await db.execute(sql`update agents set resource_group = 'default'`);
    expect((await check()).presets).toMatchObject([{ name: 'one', allocatable: true, allocatableIn: ['default'] }]);
    // Their heartbeats would bring them back, also one that the manager has yet to write down.
    await Promise.all(agents.map((agent) => agent.stop()));
    const dead = await waitFor(
      async () => {
        await db.execute(sql`update agents set status = 'LOST'`);
        const checked = await check();
        return checked.presets.some(({ allocatable }) => !allocatable) && checked;
      },
      { what: 'no room' },
    );
    expect(dead.presets).toMatchObject([{ allocatable: false, allocatableIn: [] }]);
    expect(dead.resourceGroups).toEqual({ default: { using: {}, remaining: {} } });
    await resourcePreset.delete({ id }, world.ctx());
  });
});
