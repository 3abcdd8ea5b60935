import { createApiRouter, procedureMetas } from '@backend.ai/contract';
import { customizedImageName, newId } from '@backend.ai/core';
import { runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RetentionRepository } from '../src/repositories/retention.ts';
import { RetentionService } from '../src/services/retention/retention-service.ts';
import { type ApiCaller, addMember, apiOf, createTenants, type Tenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let tenants: Tenants;
let running: string;
/** In a container. */
let onDocker: string;

beforeAll(async () => {
  world = await createWorld();
  await world.addAgent('i-one');
  await world.addAgent('i-two');
  const ofSuperadmin = customizedImageName(world.admin.userId, 'deleted');
  const images = ['backend.ai/audited:1', ofSuperadmin].map((name) => ({
    ...{ name, aliases: [], architecture: 'x86_64', language: 'python' as const },
    minSlots: { cpu: '1', mem: '67108864' },
  }));
  await world.addAgent('i-docker', { backend: 'docker', images });
  tenants = await createTenants(world);
  running = (await world.create({ name: 'running' })).id;
  await world.until(running, 'RUNNING');
  onDocker = (await world.create({ name: 'on-docker', image: 'backend.ai/audited:1' })).id;
  await world.until(onDocker, 'RUNNING');
});
afterAll(() => world.close());

type Call = (api: ApiCaller) => Promise<unknown>;

const rows = async (requestId: string) =>
  (await apiOf(world, tenants.superadmin)((api) => api.admin.audit.list({ requestId }))).items;

/** They run code, which is no change of what the cluster keeps. */
const noChanges = ['session.execute', 'session.interrupt', 'session.startService', 'session.stopService'];

const mutations = [
  ...procedureMetas(createApiRouter(new Proxy({}, { get: (): unknown => nested() }) as never)),
].flatMap(([path, { type }]) => (type === 'mutation' && !noChanges.includes(path) ? [path] : []));

function nested(): unknown {
  return new Proxy(() => undefined, { get: nested });
}

const presetOf = async (api: ApiCaller): Promise<string> =>
  (await api.resourcePreset.list({})).find(({ name }) => name === 'audited')?.id ?? '';

/** An image that a registry offered at its last rescan. */
const image = 'registry.test/audited:1';
const offer = (): Promise<unknown> =>
  world.database.db.execute(sql`
    insert into images (id, registry_id, name, repository, tag, architecture, digest, manifest_digest, size_bytes)
    select ${newId()}, id, ${image}, 'audited', '1', 'x86_64', ${`sha256:${'0'.repeat(64)}`},
      ${`sha256:${'1'.repeat(64)}`}, 1 from container_registries where name = 'audited'`);

/** One call of every change there is, each with what those before it made. */
function calls(): Readonly<Record<string, Call>> {
  const { user, neighbour, foreignAdmin } = tenants;
  const ours = { project: 'audited', domain: 'ours' };
  const policy = { name: 'audited' };
  const template = JSON.stringify({
    api_version: '6',
    kind: 'task_template',
    metadata: { name: 'audited' },
    spec: { kernel: { image: 'python' } },
  });
  const dotfile = { path: '.audited', permission: '600', content: '' };
  return {
    'session.create': (api) => api.session.create({ image: 'python', name: 'audited' }),
    'session.commit': (api) => api.session.commit({ session: onDocker, image: 'committed' }),
    'image.delete': (api) => api.image.delete({ image: 'deleted' }),
    'session.pause': (api) => api.session.pause({ session: running }),
    'session.resume': (api) => api.session.resume({ session: running }),
    'session.rename': (api) => api.session.rename({ session: running, name: 'renamed' }),
    'session.restart': (api) => api.session.restart({ session: running }),
    'session.destroy': (api) => api.session.destroy({ session: 'audited' }),
    'dotfile.create': (api) => api.dotfile.create(dotfile),
    'dotfile.modify': (api) => api.dotfile.modify(dotfile),
    'dotfile.delete': (api) => api.dotfile.delete({ path: dotfile.path }),
    'sessionTemplate.create': (api) => api.sessionTemplate.create({ payload: template }),
    'sessionTemplate.modify': (api) => api.sessionTemplate.modify({ template: 'audited', payload: template }),
    'sessionTemplate.delete': (api) => api.sessionTemplate.delete({ template: 'audited' }),
    'dotfile.setBootstrapScript': (api) => api.dotfile.setBootstrapScript({ script: 'id' }),
    'admin.domain.create': (api) => api.admin.domain.create({ name: 'audited' }),
    'admin.domain.modify': (api) => api.admin.domain.modify({ name: 'audited', description: 'x' }),
    'admin.domain.delete': (api) => api.admin.domain.delete({ name: 'audited' }),
    'admin.domain.purge': (api) => api.admin.domain.purge({ name: 'audited' }),
    'admin.project.create': (api) => api.admin.project.create({ name: 'audited', domain: 'ours' }),
    'admin.project.modify': (api) => api.admin.project.modify({ ...ours, description: 'x' }),
    'admin.project.addMembers': (api) => api.admin.project.addMembers({ ...ours, users: [user.email] }),
    'admin.project.removeMembers': (api) => api.admin.project.removeMembers({ ...ours, users: [user.email] }),
    'admin.project.delete': (api) => api.admin.project.delete(ours),
    'admin.project.purge': (api) => api.admin.project.purge(ours),
    'admin.user.create': (api) => api.admin.user.create({ email: 'audited@ours.test', domain: 'ours' }),
    'admin.user.modify': (api) => api.admin.user.modify({ user: 'audited@ours.test', description: 'x' }),
    'admin.user.changePassword': (api) => api.admin.user.changePassword({ newPassword: 'long enough' }),
    'admin.user.delete': (api) => api.admin.user.delete({ user: 'audited@ours.test' }),
    'admin.user.purge': (api) => api.admin.user.purge({ user: 'audited@ours.test' }),
    'admin.keypair.create': (api) => api.admin.keypair.create({ user: user.email }),
    'admin.keypair.modify': (api) => api.admin.keypair.modify({ accessKey: neighbour.accessKey, rateLimit: 9 }),
    'admin.keypair.delete': (api) => api.admin.keypair.delete({ accessKey: foreignAdmin.accessKey }),
    ...Object.fromEntries(
      (['keypair', 'user', 'project'] as const).flatMap((kind) => [
        [`admin.resourcePolicy.${kind}.create`, (api: ApiCaller) => api.admin.resourcePolicy[kind].create(policy)],
        [`admin.resourcePolicy.${kind}.modify`, (api: ApiCaller) => api.admin.resourcePolicy[kind].modify(policy)],
        [`admin.resourcePolicy.${kind}.delete`, (api: ApiCaller) => api.admin.resourcePolicy[kind].delete(policy)],
      ]),
    ),
    'admin.resourceGroup.create': (api) => api.admin.resourceGroup.create({ name: 'audited' }),
    'admin.resourceGroup.modify': (api) => api.admin.resourceGroup.modify({ name: 'audited', description: 'x' }),
    'admin.resourceGroup.allow': (api) => api.admin.resourceGroup.allow({ name: 'audited', to: { domain: 'ours' } }),
    'admin.resourceGroup.disallow': (api) =>
      api.admin.resourceGroup.disallow({ name: 'audited', to: { domain: 'ours' } }),
    'admin.resourceGroup.delete': (api) => api.admin.resourceGroup.delete({ name: 'audited' }),
    'admin.resourcePreset.create': (api) =>
      api.admin.resourcePreset.create({ name: 'audited', resourceSlots: { cpu: '1', mem: '1g' } }),
    'admin.resourcePreset.modify': async (api) =>
      api.admin.resourcePreset.modify({ id: await presetOf(api), resourceSlots: { cpu: '2', mem: '1g' } }),
    'admin.resourcePreset.delete': async (api) => api.admin.resourcePreset.delete({ id: await presetOf(api) }),
    'admin.warmPool.create': (api) => api.admin.warmPool.create({ name: 'audited', image: 'python', size: 0 }),
    'admin.warmPool.modify': (api) => api.admin.warmPool.modify({ name: 'audited', size: 1 }),
    'admin.warmPool.delete': (api) => api.admin.warmPool.delete({ name: 'audited' }),
    'admin.agent.modify': (api) => api.admin.agent.modify({ id: 'i-two', schedulable: false }),
    'admin.registry.create': (api) => api.admin.registry.create({ name: 'audited', url: 'https://registry.test' }),
    'admin.registry.modify': (api) => api.admin.registry.modify({ name: 'audited', repositories: ['audited'] }),
    // Nobody answers there: what is audited is that it was ordered.
    'admin.image.rescan': (api) => api.admin.image.rescan({ registry: 'audited' }),
    'admin.image.alias': async (api) => {
      await offer();
      return await api.admin.image.alias({ image, alias: 'audited-image' });
    },
    'admin.image.preload': (api) => api.admin.image.preload({ image }),
    'admin.image.dealias': (api) => api.admin.image.dealias({ alias: 'audited-image' }),
    'admin.image.forget': (api) => api.admin.image.forget({ image }),
    'admin.image.purge': async (api) => {
      await offer();
      return await api.admin.image.purge({ image });
    },
    'admin.registry.delete': (api) => api.admin.registry.delete({ name: 'audited' }),
  };
}

describe('the audit log', () => {
  it('has a row of every change there is, with its actor and request id', async () => {
    const all = calls();
    // A new mutation is to be added above, where it is seen to leave its row.
    expect([...mutations].sort()).toEqual(Object.keys(all).sort());
    for (const [path, call] of Object.entries(all)) {
      const requestId = `audit-${path}`;
      await apiOf(world, tenants.superadmin, requestId)(call);
      const { accessKey } = tenants.superadmin;
      expect([path, await rows(requestId)]).toMatchObject([path, [{ accessKey, outcome: 'done', requestId }]]);
    }
  });

  it('has a row of changes that failed, and none of what changed nothing', async () => {
    const { superadmin, user } = tenants;
    const failing: ReadonlyArray<[string, typeof user, Call]> = [
      ['domain:create', superadmin, (api) => api.admin.domain.create({ name: 'ours' })],
      ['session:create', superadmin, (api) => api.session.create({ image: 'no-such-image' })],
      ['session:create', user, (api) => api.session.create({ image: 'python', project: 'nobodys' })],
      ['session:destroy', user, (api) => api.session.destroy({ session: running })],
      ['session:rename', superadmin, (api) => api.session.rename({ session: 'audited', name: 'x y' })],
    ];
    for (const [at, [action, actor, call]] of failing.entries()) {
      const requestId = `failing-${at}`;
      const failure = await apiOf(world, actor, requestId)(call).catch((error: { code: string }) => error);
      const errorCode = (failure as { code: string }).code;
      expect(await rows(requestId)).toMatchObject([{ action, outcome: 'failed', errorCode, userId: actor.userId }]);
    }
    const again = { image: 'python', name: 'once', reuseIfExists: true } as const;
    await apiOf(world, superadmin, 'made')((api) => api.session.create(again));
    await apiOf(world, superadmin, 'found')((api) => api.session.create(again));
    expect([(await rows('made')).length, (await rows('found')).length]).toEqual([1, 0]);
  });

  it('tells of sessions by name, to their owners and the administrators of their domain', async () => {
    const { superadmin, ownAdmin, foreignAdmin } = tenants;
    await apiOf(world, superadmin)((api) => api.admin.project.create({ name: 'lab', domain: 'ours' }));
    const { actor } = await addMember(world, 'ours');
    await apiOf(
      world,
      superadmin,
    )((api) => api.admin.project.addMembers({ project: 'lab', domain: 'ours', users: [actor.email] }));
    const input = { image: 'python', name: 'seen', domain: 'ours', project: 'lab', environ: { TOKEN: 'hidden' } };
    const { session } = await apiOf(world, actor)((api) => api.session.create(input));
    await apiOf(world, ownAdmin)((api) => api.session.destroy({ session: session.id, forced: true }));
    const seenBy = async (who: typeof actor) =>
      (await apiOf(world, who)((api) => api.admin.audit.list({ targetKind: 'session', targetId: session.id }))).items;
    const created = { action: 'session:create', accessKey: actor.accessKey, changes: { name: 'seen' } };
    const ended = { action: 'session:destroy', accessKey: ownAdmin.accessKey, changes: { session: 'seen' } };
    expect(await seenBy(ownAdmin)).toMatchObject([ended, created]);
    expect(await seenBy(actor)).toMatchObject([created]);
    expect(await seenBy(foreignAdmin)).toEqual([]);
    expect(JSON.stringify(await seenBy(ownAdmin))).not.toContain('hidden');
  });

  it('has a row of an upload once it is done', async () => {
    const { id } = await world.create({ name: 'uploaded-to' });
    const { sessions } = { sessions: world.manager.services.sessions };
    const request = { session: id, action: 'session:use', changes: { upload: 'a.txt', size: 3 } } as const;
    const send = (requestId: string, work: () => Promise<void>) =>
      runWithRequest({ requestId: requestId as never }, () => sessions.recorded(request, world.admin, work));
    await send('upload-done', async () => {});
    await expect(send('upload-failed', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    const row = { action: 'session:use', changes: request.changes, target: { kind: 'session', id } };
    expect(await rows('upload-done')).toMatchObject([{ ...row, outcome: 'done' }]);
    expect(await rows('upload-failed')).toMatchObject([{ ...row, outcome: 'failed' }]);
  });

  it('is cleared of old rows together with history', async () => {
    const requestId = newId();
    await apiOf(world, tenants.superadmin, requestId)((api) => api.admin.domain.create({ name: 'long-ago' }));
    await world.database.db.execute(
      sql`update audit_log set at = now() - interval '3 days' where request_id = ${requestId}`,
    );
    const kept = (await apiOf(world, tenants.superadmin)((api) => api.admin.audit.list({}))).total - 1;
    const retention = new RetentionService(new RetentionRepository(world.database.db), silentLogger);
    const olderThanMs = 2 * 24 * 3_600_000;
    expect(await retention.clearHistory({ olderThanMs, dryRun: true })).toMatchObject({ count: 1 });
    expect(await retention.clearHistory({ olderThanMs, dryRun: false })).toMatchObject({ count: 1 });
    expect(await rows(requestId)).toEqual([]);
    expect((await apiOf(world, tenants.superadmin)((api) => api.admin.audit.list({}))).total).toBe(kept);
  });
});
