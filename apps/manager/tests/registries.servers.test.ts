import { createHash } from 'node:crypto';
import type { Image, ImageView, ScanReport, TaskView } from '@backend.ai/contract';
import { makeTempDirectory, RegistryPusher, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type DevServer, freePort, missingPackages, startDockerRegistry } from '../../../scripts/dev-servers/index.ts';
import { createWorld, type World } from './world.ts';

const withoutRegistry = missingPackages(['dockerRegistry']).length > 0;
const credentials = { username: 'scanner', password: 'the password of the registry' };
let server: DevServer;
let pusher: RegistryPusher;
let host: string;

beforeAll(async () => {
  if (withoutRegistry) return;
  const directory = await makeTempDirectory();
  server = await startDockerRegistry({ directory: directory.path, credentials });
  pusher = new RegistryPusher({ url: server.url, credentials });
  host = server.url.replace('http://', '');
  return async () => {
    await server.stop();
    await directory.remove();
  };
});

async function world(): Promise<World> {
  const made = await createWorld();
  onTestFinished(() => made.close());
  return made;
}

async function outcome({ manager, ctx }: World, taskId: string): Promise<TaskView> {
  let last: TaskView | undefined;
  for await (const view of manager.services.api.task.watch({ taskId }, ctx())) last = view;
  return last!;
}

async function rescan(w: World, registry: string): Promise<ScanReport> {
  const [started] = await w.manager.services.api.admin.image.rescan({ registry }, w.ctx());
  const { state, result, error } = await outcome(w, started!.taskId);
  expect([state, error]).toEqual(['done', null]);
  return result as ScanReport;
}

async function addRegistry(w: World, repositories: string[] = [], given: typeof credentials | null = credentials) {
  const input = {
    name: 'main',
    url: server.url,
    repositories,
    isActive: true,
    username: null,
    password: null,
    ...given,
  };
  return await w.manager.services.api.admin.registry.create(input, w.ctx());
}

const listed = async (w: World): Promise<ImageView[]> => await w.manager.services.api.image.list(w.ctx());

describe.skipIf(withoutRegistry)('registries', () => {
  it('keep their password under the installation key and show it to nobody', async () => {
    const w = await world();
    const view = await addRegistry(w);
    expect(view).toMatchObject({ name: 'main', username: 'scanner', hasPassword: true });
    const rows = await w.database.db.execute<{ all: string }>(
      sql`select (select string_agg(r::text, '') from container_registries r) || (select string_agg(a::text, '') from audit_log a) as all`,
    );
    expect(rows[0]!.all).not.toContain(credentials.password);
    expect(JSON.stringify(await w.manager.services.api.admin.registry.list(w.ctx()))).not.toContain(
      credentials.password,
    );
    await expect(addRegistry(w)).rejects.toMatchObject({ code: 'object-exists' });
    const { registry } = w.manager.services.api.admin;
    await expect(registry.modify({ name: 'main', username: null }, w.ctx())).rejects.toMatchObject({
      code: 'invalid-input',
    });
    expect(await registry.modify({ name: 'main', username: null, password: null }, w.ctx())).toMatchObject({
      hasPassword: false,
    });
    await registry.delete({ name: 'main' }, w.ctx());
    await expect(registry.get({ name: 'main' }, w.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('keep their password from another address', async () => {
    const w = await world();
    const { registry } = w.manager.services.api.admin;
    const one = { name: 'one', url: 'http://one.example', username: 'somebody', password: 'secret' };
    await registry.create({ ...one, repositories: [], isActive: true }, w.ctx());
    const moved = registry.modify({ name: 'one', url: 'http://two.example' }, w.ctx());
    await expect(moved).rejects.toMatchObject({ code: 'invalid-input' });
    const again = { name: 'one', url: 'http://two.example', password: 'another' };
    expect(await registry.modify(again, w.ctx())).toMatchObject({ url: 'http://two.example', hasPassword: true });
  });

  it('keep their images when a change of their address is refused', async () => {
    const w = await world();
    const { registry } = w.manager.services.api.admin;
    const others = { repositories: [], isActive: true, username: null, password: null };
    await registry.create({ name: 'one', url: 'http://one.example', ...others }, w.ctx());
    await registry.create({ name: 'two', url: 'http://two.example', ...others }, w.ctx());
    await w.database.db.execute(sql`
      insert into images (id, registry_id, name, repository, tag, architecture, digest, manifest_digest, size_bytes)
      select gen_random_uuid(), id, 'one.example/a:b', 'a', 'b', 'x86_64', 'sha256:0', 'sha256:0', 1
      from container_registries where name = 'one'`);
    const taken = registry.modify({ name: 'one', url: 'http://two.example' }, w.ctx());
    await expect(taken).rejects.toMatchObject({ code: 'object-exists' });
    expect((await registry.get({ name: 'one' }, w.ctx())).images).toBe(1);
    await registry.modify({ name: 'one', url: 'http://three.example' }, w.ctx());
    expect((await registry.get({ name: 'one' }, w.ctx())).images).toBe(0);
  });

  it('are read: manifests and lists of both kinds, page after page, with warnings for labels that make no sense', async () => {
    const w = await world();
    await addRegistry(w, ['read']);
    const labels = {
      'ai.backend.kernelspec': '1',
      'ai.backend.runtime-type': 'python',
      'ai.backend.service-ports': 'jupyter:http:8888,ssh:tcp:22',
      'ai.backend.resource.min.mem': '256m',
      'other.label': 'not ours',
    };
    const single = await pusher.image('read/single', '1.0', { labels });
    const architectures = [{ architecture: 'amd64', labels }, { architecture: 'arm64' }];
    await pusher.list('read/docker-list', '1', architectures);
    // Builders put what they attest beside the images, for a platform that does not exist.
    await pusher.list('read/oci-index', '1', [...architectures, { architecture: 'unknown' }], 'oci');
    await pusher.image('read/oci', '1', {}, 'oci');
    const report = await rescan(w, 'main');
    expect(report).toMatchObject({ images: 6, changed: 6, removed: 0, warned: 3, failed: 0, failures: [] });
    const names = (await listed(w)).map(({ name, architecture }) => `${name} ${architecture}`);
    expect(names).toEqual([
      `${host}/read/docker-list:1 aarch64`,
      `${host}/read/docker-list:1 x86_64`,
      `${host}/read/oci-index:1 aarch64`,
      `${host}/read/oci-index:1 x86_64`,
      `${host}/read/oci:1 x86_64`,
      `${host}/read/single:1.0 x86_64`,
    ]);
    const details = await w.manager.services.api.image.get({ image: 'read/single:1.0' }, w.ctx());
    expect(details).toMatchObject({
      ...{ registry: 'main', language: 'python', digest: single.digest, manifestDigest: single.manifestDigest },
      minSlots: { cpu: '1', mem: '268435456' },
      servicePorts: [{ name: 'jupyter', protocol: 'http', ports: [8888] }],
      warnings: [{ code: 'invalid-label', label: 'ai.backend.service-ports' }],
    });
    expect(details.labels).not.toHaveProperty('other.label');
  });

  it('are read anew: what changed, what is gone, and nothing twice', async () => {
    const w = await world();
    await addRegistry(w, ['anew']);
    const old = await pusher.image('anew/one', '1', { labels: { 'ai.backend.role': 'COMPUTE' } });
    const gone = await pusher.image('anew/two', '1', { labels: { 'ai.backend.role': 'SYSTEM' } });
    expect(await rescan(w, 'main')).toMatchObject({ images: 2, changed: 2 });
    expect(await rescan(w, 'main')).toMatchObject({ images: 2, changed: 0, removed: 0 });
    const now = await pusher.image('anew/one', '1', { labels: { 'ai.backend.role': 'INFERENCE' } });
    expect(now.digest).not.toBe(old.digest);
    const { image } = w.manager.services.api.admin;
    const purged = await image.purge({ image: `${host}/anew/two:1`, forced: false, removeFromRegistry: true }, w.ctx());
    expect(purged).toMatchObject({ removedFromRegistry: true, agents: [] });
    expect(gone.tag).toBe('1');
    expect(await rescan(w, 'main')).toMatchObject({ images: 1, changed: 1, removed: 0 });
    expect(await listed(w)).toMatchObject([{ digest: now.digest, role: 'inference' }]);
  });

  it('with an image that cannot be read have the others, and what was known of it stays', async () => {
    const w = await world();
    await addRegistry(w, ['odd']);
    const config = Buffer.from('this is no configuration');
    const digest = await pusher.blob('odd/broken', config);
    expect(digest).toBe(`sha256:${createHash('sha256').update(config).digest('hex')}`);
    const type = 'application/vnd.docker.distribution.manifest.v2+json';
    const mediaType = 'application/vnd.docker.container.image.v1+json';
    const broken = {
      schemaVersion: 2,
      mediaType: type,
      config: { mediaType, size: config.length, digest },
      layers: [],
    };
    const before = await pusher.image('odd/broken', '1');
    await pusher.image('odd/good', '1');
    expect(await rescan(w, 'main')).toMatchObject({ images: 2, failed: 0 });
    await pusher.manifest('odd/broken', '1', broken, type);
    const chart = { ...broken, config: { ...broken.config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } };
    await pusher.manifest('odd/broken', 'chart', chart, type);
    const report = await rescan(w, 'main');
    expect(report).toMatchObject({ images: 2, changed: 0, removed: 0, failed: 2 });
    expect(report.failures.map(({ image, code }) => [image, code])).toEqual([
      ['odd/broken:1', 'registry-answer-invalid'],
      ['odd/broken:chart', 'registry-answer-invalid'],
    ]);
    expect((await listed(w)).map((image) => image.digest)).toContain(before.digest);
  });

  it('that cannot be used fail alone, with a code that says why', async () => {
    const w = await world();
    await addRegistry(w, ['alone'], { username: 'scanner', password: 'wrong' });
    const { registry, image } = w.manager.services.api.admin;
    const other = { username: null, password: null, repositories: [], isActive: true };
    await registry.create({ ...other, name: 'absent', url: `http://127.0.0.1:${await freePort()}` }, w.ctx());
    await registry.create({ ...other, name: 'resting', url: 'https://resting.test', isActive: false }, w.ctx());
    const started = await image.rescan({}, w.ctx());
    expect(started.map((each) => each.registry)).toEqual(['absent', 'main']);
    const [absent, denied] = await Promise.all(started.map(({ taskId }) => outcome(w, taskId)));
    expect(absent).toMatchObject({ state: 'failed', error: { code: 'registry-unreachable' } });
    expect(denied).toMatchObject({ state: 'failed', error: { code: 'registry-denied' } });
    await registry.modify({ name: 'main', password: credentials.password }, w.ctx());
    await pusher.image('alone/one', '1');
    expect(await rescan(w, 'main')).toMatchObject({ images: 1 });
    expect(await registry.get({ name: 'main' }, w.ctx())).toMatchObject({ images: 1, lastScan: { images: 1 } });
  });

  it('that several want rescanned at once are rescanned once', async () => {
    const w = await world();
    await addRegistry(w, ['once']);
    await pusher.image('once/one', '1');
    await server.pause();
    onTestFinished(() => server.resume());
    const { image } = w.manager.services.api.admin;
    const started = await Promise.all([1, 2, 3].map(() => image.rescan({ registry: 'main' }, w.ctx())));
    const ids = new Set(started.map(([each]) => each!.taskId));
    expect(ids.size).toBe(1);
    await server.resume();
    expect((await outcome(w, [...ids][0]!)).state).toBe('done');
    const [again] = await image.rescan({ registry: 'main' }, w.ctx());
    expect(ids).not.toContain(again!.taskId);
    await outcome(w, again!.taskId);
  });
});

describe.skipIf(withoutRegistry)('sessions of images that a registry has', () => {
  it('are placed on agents with an engine, told where the image is, and pulling is seen', async () => {
    const w = await world();
    const process = await w.addAgent('i-process');
    const docker = await w.addAgent('i-docker', { backend: 'docker', images: [] });
    await addRegistry(w, ['run']);
    const pushed = await pusher.image('run/tool', '1', {
      labels: { 'ai.backend.resource.min.mem': '128m', 'ai.backend.resource.preferred.shmem': '32m' },
    });
    await rescan(w, 'main');
    const { image } = w.manager.services.api.admin;
    await image.alias({ alias: 'tool', image: 'run/tool:1' }, w.ctx());
    docker.behaviour = 'stall';
    const session = await w.create({ image: 'tool' });
    expect(session).toMatchObject({
      image: `${host}/run/tool:1`,
      requested: { mem: String((128 + 32) * 1024 * 1024) },
    });
    const { spec } = await waitFor(() => [...docker.kernels.values()][0], { what: 'the order' });
    expect(spec.imageSource).toEqual({
      ...{ digest: pushed.digest, manifestDigest: pushed.manifestDigest, pullPolicy: 'digest', credentials },
    });
    expect(process.kernels.size).toBe(0);
    const progress = { currentBytes: 5, totalBytes: 10 };
    docker.imageStates.set(session.image, { state: 'pulling', digest: null, progress, failure: null });
    docker.tell(spec.kernelId, { type: 'kernel-pulling' });
    await w.until(session.id, 'PULLING');
    const watched = w.manager.services.api.session.watch({ session: session.id }, w.ctx())[Symbol.asyncIterator]();
    expect((await watched.next()).value).toMatchObject({ status: 'PULLING', pull: progress });
    await watched.return?.();
    docker.finishStart(spec.kernelId);
    expect(await w.until(session.id, 'RUNNING')).toMatchObject({ pull: null });
  });

  it('wait with a reason while no agent has an engine, and when the registry is removed', async () => {
    const w = await world();
    await w.addAgent('i-process');
    await addRegistry(w, ['wait']);
    await pusher.image('wait/tool', '1');
    await rescan(w, 'main');
    const session = await w.create({ image: 'wait/tool:1' });
    await waitFor(
      async () =>
        (await w.manager.services.api.session.get({ session: session.id }, w.ctx())).reason.code ===
        'no-agent-with-image',
      { what: 'the reason' },
    );
    await w.manager.services.api.admin.registry.delete({ name: 'main' }, w.ctx());
    await w.addAgent('i-docker', { backend: 'docker', images: [] });
    await w.manager.services.settle();
    const view = await w.manager.services.api.session.get({ session: session.id }, w.ctx());
    expect([view.status, view.reason.code]).toEqual(['PENDING', 'no-agent-with-image']);
  });

  it('are refused beyond what the labels allow, and in roles that are not theirs', async () => {
    const w = await world();
    await w.addAgent('i-docker', { backend: 'docker', images: [] });
    await addRegistry(w, ['limits']);
    const label = (rest: object) => ({ labels: { 'ai.backend.resource.min.mem': '256m', ...rest } });
    await pusher.image('limits/some', '1', label({ 'ai.backend.resource.max.cpu': '2' }));
    await pusher.image('limits/own', '1', label({ 'ai.backend.role': 'SYSTEM' }));
    await rescan(w, 'main');
    const refused = async (input: Parameters<World['create']>[0], field: string): Promise<void> => {
      await expect(w.create(input)).rejects.toMatchObject({
        code: 'invalid-input',
        data: { fields: { [field]: expect.any(String) } },
      });
    };
    await refused({ image: 'limits/some:1', resources: { cpu: '3' } }, 'resources.cpu');
    // The label's minimum and the shared memory: 256 + 64 MiB.
    await refused({ image: 'limits/some:1', resources: { mem: '300m' } }, 'resources.mem');
    await refused({ image: 'limits/own:1' }, 'image');
    expect((await w.create({ image: 'limits/some:1' })).requested).toEqual({
      cpu: '1',
      mem: String(320 * 1024 * 1024),
    });
  });

  it('end with a reason of their own when the image cannot be fetched', async () => {
    const w = await world();
    const docker = await w.addAgent('i-docker', { backend: 'docker', images: [] });
    await addRegistry(w, ['fails']);
    await pusher.image('fails/tool', '1');
    await rescan(w, 'main');
    docker.behaviour = 'stall';
    const session = await w.create({ image: 'fails/tool:1' });
    const { spec } = await waitFor(() => [...docker.kernels.values()][0], { what: 'the order' });
    docker.tell(spec.kernelId, { type: 'kernel-pulling' });
    await w.until(session.id, 'PULLING');
    const error = { code: 'image-pull-denied', category: 'operator', message: 'No.', hint: '' } as const;
    docker.tell(spec.kernelId, { type: 'kernel-start-failed', error, failedStep: 'ensure-image' });
    const view = await w.until(session.id, 'ERROR');
    expect(view.reason).toMatchObject({ code: 'image-pull-failed', data: { error: { code: 'image-pull-denied' } } });
  });
});

describe.skipIf(withoutRegistry)('images that administrators handle', () => {
  it('have aliases that mean one image per architecture, until they are taken away', async () => {
    const w = await world();
    await w.addAgent('i-arm', { backend: 'docker', images: [], architecture: 'aarch64' });
    await w.addAgent('i-1');
    await addRegistry(w, ['named']);
    await pusher.list('named/tool', '1', [{ architecture: 'amd64' }, { architecture: 'arm64' }]);
    await rescan(w, 'main');
    const { image } = w.manager.services.api.admin;
    const get = (ref: { image: string; architecture?: string }) => w.manager.services.api.image.get(ref, w.ctx());
    // Of two architectures the one that an agent could start.
    expect(await image.alias({ alias: 'mine', image: 'named/tool:1' }, w.ctx())).toMatchObject({
      architecture: 'aarch64',
    });
    await image.alias({ alias: 'mine', image: 'named/tool:1' }, w.ctx());
    await image.alias({ alias: 'mine', image: 'local/python:3.11' }, w.ctx());
    await expect(
      image.alias({ alias: 'mine', image: 'named/tool:1', architecture: 'amd64' }, w.ctx()),
    ).rejects.toMatchObject({
      code: 'object-exists',
    });
    expect((await get({ image: 'mine', architecture: 'arm64' })).name).toBe(`${host}/named/tool:1`);
    expect((await get({ image: 'mine', architecture: 'x86_64' })).name).toBe('local/python:3.11');
    await image.dealias({ alias: 'mine', architecture: 'arm64' }, w.ctx());
    expect((await get({ image: 'mine' })).name).toBe('local/python:3.11');
    await image.dealias({ alias: 'mine' }, w.ctx());
    await expect(get({ image: 'mine' })).rejects.toMatchObject({ code: 'unknown-image' });
    await expect(image.dealias({ alias: 'mine' }, w.ctx())).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('are forgotten until a rescan, purged from agents that have them, and preloaded where they are not', async () => {
    const w = await world();
    const [one, two] = [
      await w.addAgent('i-1', { backend: 'docker', images: [] }),
      await w.addAgent('i-2', { backend: 'docker', images: [] }),
    ];
    await addRegistry(w, ['handled']);
    const pushed = await pusher.image('handled/tool', '1');
    await rescan(w, 'main');
    const { image } = w.manager.services.api.admin;
    const name = `${host}/handled/tool:1`;
    const { taskId, agents } = await image.preload({ image: name }, w.ctx());
    expect(agents).toEqual(['i-1', 'i-2']);
    const state = { digest: pushed.digest, progress: null, failure: null };
    one.imageStates.set(name, { state: 'present', ...state });
    two.imageStates.set(name, {
      state: 'absent',
      ...state,
      digest: null,
      failure: { code: 'image-pull-denied', message: 'No.' },
    });
    expect(await outcome(w, taskId)).toMatchObject({
      state: 'done',
      result: {
        image: name,
        agents: [
          { agent: 'i-1', error: null },
          { agent: 'i-2', error: 'No.' },
        ],
      },
    });
    expect(one.pulls).toMatchObject([{ image: name, source: { digest: pushed.digest, credentials } }]);
    const offered: Image = {
      name,
      aliases: [],
      architecture: 'x86_64',
      language: 'shell',
      minSlots: {},
      digest: pushed.digest,
    };
    await one.api.reportImages.mutate({ agentId: 'i-1', images: [offered, { name: 7 } as never] });
    expect(await listed(w)).toMatchObject([{ name, installedAgents: ['i-1'] }]);
    await image.forget({ image: name }, w.ctx());
    expect(await listed(w)).toMatchObject([{ name, registry: null }]);
    await expect(image.forget({ image: name }, w.ctx())).rejects.toMatchObject({ code: 'invalid-input' });
    await rescan(w, 'main');
    expect(await listed(w)).toMatchObject([{ name, registry: 'main' }]);
    const report = await image.purge({ image: name, forced: false, removeFromRegistry: false }, w.ctx());
    expect(report.agents).toEqual([{ agent: 'i-1', outcome: 'removed', message: null }]);
    expect(one.purges).toEqual([name]);
  });

  it('are for administrators only', async () => {
    const w = await world();
    const user = { ...w.ctx(), actor: { ...w.admin, role: 'user' as const } };
    await expect(async () => {
      for await (const _ of w.manager.services.api.task.watch(
        { taskId: '00000000-0000-4000-8000-000000000000' },
        user,
      ));
    }).rejects.toMatchObject({ code: 'object-not-found' });
  });
});
