import {
  type CallContext,
  createApiRouter,
  createCallerFactory,
  createSessionSchema,
  procedureMetas,
  type UserActor,
} from '@backend.ai/contract';
import { newId, type RequestId } from '@backend.ai/core';
import { createTenant, waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from './world.ts';

let world: World;
let tenant: UserActor;

beforeAll(async () => {
  // Hundreds of requests at once hold up heartbeats, too.
  world = await createWorld({ config: { agentLostAfterMs: 60_000 } });
  const { domain, user, keypair } = await createTenant(world.database.db);
  tenant = {
    kind: 'user',
    accessKey: keypair.accessKey,
    userId: user.id,
    email: user.email,
    role: 'user',
    domain: domain.name,
  };
});
afterAll(() => world.close());

const as = (actor: CallContext['actor'], signal?: AbortSignal): CallContext => ({
  requestId: newId<RequestId>(),
  actor,
  headers: {},
  signal,
});
const create = (input: object) =>
  world.manager.services.api.session.create(createSessionSchema.parse({ image: 'python', ...input }), world.ctx());

describe('before any agent has joined', () => {
  it('asks to wait for one', async () => {
    await expect(create({})).rejects.toMatchObject({ code: 'no-agent' });
  });
});

describe('a request for a session', () => {
  beforeAll(async () => {
    const agent = await world.addAgent('i-one');
    // Sessions stay where they are: what is tested is their beginning.
    agent.behaviour = 'stall';
  });

  it.each([
    ['invalid-session-name', { name: '-x' }],
    ['unknown-image', { image: 'cobol:68' }],
    ['unknown-image', { architecture: 'riscv64' }],
    ['unknown-slot', { resources: { 'cuda.device': 1 } }],
    ['invalid-input', { resources: { cpu: 'many' } }],
    ['invalid-input', { resources: { cpu: '0.5' } }],
    ['insufficient-capacity', { resources: { mem: '1t' } }],
    ['invalid-input', { project: 'nowhere' }],
    ['invalid-input', { resourceGroup: 'nowhere' }],
    ['invalid-input', { resourceOpts: { shmem: 'much' } }],
    ['invalid-input', { resources: { mem: '1g' }, resourceOpts: { shmem: '1g' } }],
    ['invalid-input', { resources: { mem: '300m' }, resourceOpts: { shmem: '256m' } }],
    ['insufficient-capacity', { clusterSize: 2, resources: { cpu: 3 } }],
    ['invalid-input', { dependencies: ['nothing-here'] }],
  ])('is refused with %s: %j', async (code, input) => {
    await expect(create(input)).rejects.toMatchObject({ code });
    expect(await world.manager.services.api.session.list({ all: true, limit: 10 }, world.ctx())).toEqual([]);
  });

  it('is told what was asked and what the largest agent has', async () => {
    await expect(create({ resources: { mem: '1t', cpu: 2 } })).rejects.toMatchObject({
      data: { slots: { mem: { asked: '1099511627776', largestAgent: '4294967296' } } },
    });
  });

  it('gets the minimum of its image, and a name', async () => {
    const { session } = await create({ resources: { mem: '1g' } });
    expect(session).toMatchObject({ requested: { cpu: '1', mem: '1073741824' }, image: 'local/python:3.11' });
    expect(session.name).toMatch(/^session-/);
    expect(await world.manager.services.api.session.get({ session: session.name }, world.ctx())).toMatchObject({
      id: session.id,
    });
  });

  it('finds a live session of its name and image, or is told of the one in its way', async () => {
    const first = await create({ name: 'same' });
    expect(first.created).toBe(true);
    expect(await create({ name: 'same' })).toMatchObject({ created: false, session: { id: first.session.id } });
    await expect(create({ name: 'same', reuseIfExists: false })).rejects.toMatchObject({
      code: 'session-exists',
      data: { existingSessionId: first.session.id },
    });
  });

  it('made many times at once under one name makes one session', async () => {
    const results = await Promise.all(Array.from({ length: 200 }, () => create({ name: 'once' })));
    expect(results.filter((result) => result.created)).toHaveLength(1);
    expect(new Set(results.map((result) => result.session.id)).size).toBe(1);
  });
});

describe('a reference', () => {
  it('finds nothing of others, except for superadmins by id', async () => {
    const { session } = await create({ name: 'mine' });
    const { get, list } = world.manager.services.api.session;
    await expect(get({ session: session.id }, as(tenant))).rejects.toMatchObject({ code: 'session-not-found' });
    await expect(get({ session: 'mine' }, as(tenant))).rejects.toMatchObject({ code: 'session-not-found' });
    expect(await list({ all: true, limit: 100 }, as(tenant))).toEqual([]);
    const superadmin = { ...tenant, role: 'superadmin' as const };
    expect(await get({ session: session.id }, as(superadmin))).toMatchObject({ id: session.id });
    await expect(get({ session: 'mine' }, as(superadmin))).rejects.toMatchObject({ code: 'session-not-found' });
  });

  it('to the project of another domain is refused', async () => {
    const input = createSessionSchema.parse({ image: 'python', domain: 'default' });
    await expect(world.manager.services.api.session.create(input, as(tenant))).rejects.toMatchObject({
      code: 'invalid-input',
    });
  });
});

describe('waiting', () => {
  it('ends when the caller goes away, and when its time is over', async () => {
    const { session } = await create({ resources: { cpu: 4 } });
    const gone = new AbortController();
    const { get, wait, watch } = world.manager.services.api.session;
    const waits = { reason: { code: 'insufficient-resources' } };
    await waitFor(async () => (await get({ session: session.id }, world.ctx())).reason.code === waits.reason.code, {
      what: 'the reason why it waits',
    });
    const waiting = wait({ session: session.id, until: 'running', timeoutMs: 60_000 }, as(world.admin, gone.signal));
    const seen: string[] = [];
    const watching = (async () => {
      for await (const view of watch({ session: session.id }, as(world.admin, gone.signal)))
        seen.push(view.reason.code);
    })();
    await waitFor(() => seen.length > 0, { what: 'the first view' });
    const late = await wait({ session: session.id, until: 'ended', timeoutMs: 50 }, world.ctx());
    expect(late).toMatchObject({ status: 'PENDING', ...waits });
    gone.abort();
    expect((await waiting).status).toBe('PENDING');
    await watching;
    expect(seen.at(-1)).toBe('insufficient-resources');
    const cancelled = await world.manager.services.api.session.destroy(
      { session: session.id, forced: false },
      world.ctx(),
    );
    expect(cancelled).toMatchObject({ status: 'CANCELLED', reason: { code: 'user-requested' } });
  });
});

describe('rights', () => {
  it('every procedure refuses callers without a login', async () => {
    const router = createApiRouter(world.manager.services.api);
    const peer = { kind: 'peer', peerKind: 'agent', peerId: 'i-one' } as const;
    for (const actor of [{ kind: 'anonymous' } as const, peer]) {
      const caller = createCallerFactory(router)(as(actor));
      for (const [path] of procedureMetas(router)) {
        const procedure = path.split('.').reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], caller);
        const input = { session: 'x', image: 'x', until: 'ended', mode: 'query', code: '' };
        await expect((procedure as (input: unknown) => Promise<unknown>)(input), path).rejects.toMatchObject({
          cause: { code: 'auth-missing' },
        });
      }
    }
  });

  it('services refuse them too', async () => {
    const { api } = world.manager.services;
    await expect(api.auth.whoami(as({ kind: 'anonymous' }))).rejects.toMatchObject({ code: 'auth-missing' });
    await expect(api.auth.whoami(world.ctx())).resolves.toMatchObject({ role: 'superadmin', projects: ['default'] });
  });
});
