import {
  type CreateSessionInput,
  checkPresetsSchema,
  createKeypairPolicySchema,
  createProjectPolicySchema,
  createUserPolicySchema,
} from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ApiCaller, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** Each limit of each policy: what reaches it is taken, what goes beyond it is refused or waits, and is told why. */

let world: World;

beforeAll(async () => {
  world = await createWorld();
  await world.addAgent('i-one', { slots: { cpu: '16', mem: String(16 * 1024 ** 3) } });
});
afterAll(() => world.close());
afterEach(async () => {
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  for (const kind of ['keypair', 'user', 'project'] as const) await limit(kind, {});
  for (const kind of ['project', 'domain'] as const) await total(kind, {});
  await openFor(true);
});

const admin = <T>(work: (api: ApiCaller) => Promise<T>): Promise<T> => apiOf(world, world.admin)(work);
const openFor = (schedulable: boolean) => admin((api) => api.admin.agent.modify({ id: 'i-one', schedulable }));
const schemas = {
  keypair: createKeypairPolicySchema,
  user: createUserPolicySchema,
  project: createProjectPolicySchema,
} as const;
type Kind = keyof typeof schemas;

/** Of the policy that everybody has; what is absent has its default. */
const limit = async (kind: Kind, fields: object): Promise<void> => {
  const policy = { ...schemas[kind].parse({ ...fields, name: 'default' }), name: 'default' };
  await admin<object>((api) => api.admin.resourcePolicy[kind].modify(policy));
};
const total = async (kind: 'project' | 'domain', totalResourceSlots: Record<string, string>): Promise<void> => {
  await admin<object>((api) =>
    kind === 'project'
      ? api.admin.project.modify({ project: 'default', domain: 'default', totalResourceSlots })
      : api.admin.domain.modify({ name: 'default', totalResourceSlots }),
  );
};

type Input = Partial<CreateSessionInput>;
const cpu = (amount: number): Input => ({ resources: { cpu: amount, mem: '64m' } });
const run = async (input: Input): Promise<string> => {
  const { id } = await world.create(input);
  return (await world.until(id, 'RUNNING')).id;
};

/** The last of the sessions waits for this limit, and for nothing else; the others run. */
async function lastWaits(sessions: readonly Input[], violation: object): Promise<void> {
  for (const input of sessions.slice(0, -1)) await run(input);
  const { id } = await world.create(sessions.at(-1));
  const reason = await waitFor(
    async () => {
      const { status, reason } = await world.manager.services.api.session.get({ session: id }, world.ctx());
      return status === 'PENDING' && reason.code === 'quota-exceeded' && reason;
    },
    { what: 'it waits for a limit' },
  );
  expect(reason.data).toEqual({ violations: [expect.objectContaining(violation)] });
}

/** The last of the sessions is refused for this limit; the others are taken, whether they run or wait. */
async function lastIsRefused(sessions: readonly Input[], name: string): Promise<void> {
  for (const input of sessions.slice(0, -1)) await world.create(input);
  await expect(world.create(sessions.at(-1))).rejects.toMatchObject({ code: 'quota-exceeded', data: { limit: name } });
}

/** A session that is within the limit goes on, one that is a moment beyond it ends. */
async function endsBeyond(age: (session: string, seconds: number) => Promise<unknown>, code: string): Promise<void> {
  const [within, beyond] = [await run({}), await run({})];
  await age(within, 3_000);
  await age(beyond, 3_601);
  expect((await world.until(beyond, 'TERMINATED')).reason.code).toBe(code);
  expect((await world.manager.services.api.session.get({ session: within }, world.ctx())).status).toBe('RUNNING');
}

/** Stored for features that this version does not have. */
const isKept = (kind: Kind, field: string) => async (): Promise<void> => {
  await limit(kind, { [field]: 7 });
  const policy = await admin<object>((api) => api.admin.resourcePolicy[kind].get({ name: 'default' }));
  expect(policy).toMatchObject({ [field]: 7 });
  for (let nth = 0; nth < 8; nth++) await run({});
};

type Cases<Schema extends { readonly shape: object }> = Readonly<
  Record<Exclude<keyof Schema['shape'], 'name'>, () => Promise<void>>
>;

const ofKeypairs: Cases<typeof createKeypairPolicySchema> = {
  async totalResourceSlots() {
    await limit('keypair', { totalResourceSlots: { cpu: 3 } });
    const told = { scope: 'keypair', slot: 'cpu', asked: '1', used: '3', limit: '3' };
    await lastWaits([cpu(1), cpu(2), cpu(1)], told);
  },
  async defaultForUnspecified() {
    await limit('keypair', { totalResourceSlots: { mem: '8g' }, defaultForUnspecified: 'UNLIMITED' });
    await run(cpu(1));
    await limit('keypair', { totalResourceSlots: { mem: '8g' }, defaultForUnspecified: 'LIMITED' });
    await lastWaits([cpu(1)], { scope: 'keypair', slot: 'cpu', asked: '1', limit: '0' });
  },
  async maxConcurrentSessions() {
    await limit('keypair', { maxConcurrentSessions: 2 });
    await lastWaits([{}, {}, {}], { scope: 'keypair', slot: 'sessions', asked: '1', used: '2', limit: '2' });
  },
  async maxConcurrentSftpSessions() {
    await limit('keypair', { maxConcurrentSftpSessions: 2, maxConcurrentSessions: 1 });
    const system = { type: 'system' } as const;
    // One of the others is not counted with them.
    const told = { scope: 'keypair', slot: 'private-sessions', asked: '1', used: '2', limit: '2' };
    await lastWaits([system, {}, system, system], told);
  },
  async maxPendingSessionCount() {
    await openFor(false);
    await limit('keypair', { maxPendingSessionCount: 2 });
    await lastIsRefused([{}, {}, {}], 'max_pending_session_count');
  },
  async maxPendingSessionResourceSlots() {
    await openFor(false);
    await limit('keypair', { maxPendingSessionResourceSlots: { cpu: 3 } });
    await lastIsRefused([cpu(1), cpu(2), cpu(1)], 'max_pending_session_resource_slots');
  },
  async maxContainersPerSession() {
    await limit('keypair', { maxContainersPerSession: 2 });
    await lastIsRefused([{ clusterSize: 2 }, { clusterSize: 3 }], 'max_containers_per_session');
  },
  async maxPriority() {
    await limit('keypair', { maxPriority: 20 });
    await lastIsRefused([{ priority: 20 }, { priority: 21 }], 'max_priority');
  },
  async maxSessionLifetime() {
    await limit('keypair', { maxSessionLifetime: 3_600 });
    const age = (session: string, seconds: number): Promise<unknown> =>
      world.database.db.execute(sql`
        update sessions set created_at = now() - make_interval(secs => ${seconds}) where id = ${session}::uuid`);
    await endsBeyond(age, 'idle-session-lifetime');
  },
  async idleTimeout() {
    await limit('keypair', { idleTimeout: 3_600 });
    // The installation would end neither.
    await world.configStore.put('config/idle/checkers/network_timeout/threshold', '10h');
    await world.configStore.put('config/idle/enabled', 'network_timeout');
    const age = async (session: string, seconds: number): Promise<void> => {
      const lastAccess = String(Date.now() - seconds * 1_000);
      await world.liveValues().set(`session:${session}:last-access`, lastAccess, 3_600_000);
      await world.database.db.execute(
        sql`update sessions set started_at = now() - interval '3 hours' where id = ${session}::uuid`,
      );
    };
    await endsBeyond(age, 'idle-timeout');
    await world.configStore.delete('config/idle/enabled');
    await world.manager.services.settle();
  },
};

const ofUsers: Cases<typeof createUserPolicySchema> = {
  async totalResourceSlots() {
    await limit('user', { totalResourceSlots: { cpu: 3 } });
    const told = { scope: 'user', slot: 'cpu', asked: '1', used: '3', limit: '3' };
    await lastWaits([cpu(1), cpu(2), cpu(1)], told);
  },
  maxSessionCountPerModelSession: isKept('user', 'maxSessionCountPerModelSession'),
  // What it limits is in commits.test.ts.
  maxCustomizedImageCount: isKept('user', 'maxCustomizedImageCount'),
  maxConcurrentLogins: isKept('user', 'maxConcurrentLogins'),
};

const ofProjects: Cases<typeof createProjectPolicySchema> = {
  maxNetworkCount: isKept('project', 'maxNetworkCount'),
};

describe.each([
  ['keypair', ofKeypairs],
  ['user', ofUsers],
  ['project', ofProjects],
] as const)('of the policy of a %s', (_, cases) => {
  it.each(Object.entries<() => Promise<void>>(cases))('%s holds where it is reached, and not before', (_, holds) =>
    holds(),
  );
});

describe.each(['project', 'domain'] as const)('of a %s', (kind) => {
  it('total_resource_slots holds where it is reached, and not before', async () => {
    await total(kind, { cpu: '3' });
    await lastWaits([cpu(1), cpu(2), cpu(1)], { scope: kind, slot: 'cpu', asked: '1', used: '3', limit: '3' });
  });
});

describe('a preset', () => {
  beforeAll(async () => {
    const preset = { name: 'two', resourceSlots: { cpu: 2, mem: '64m' } };
    await admin((api) => api.admin.resourcePreset.create(preset));
  });

  it.each([
    ['keypair', (amount: number) => limit('keypair', { totalResourceSlots: { cpu: amount } })],
    ['user', (amount: number) => limit('user', { totalResourceSlots: { cpu: amount } })],
    ['project', (amount: number) => total('project', { cpu: String(amount) })],
    ['domain', (amount: number) => total('domain', { cpu: String(amount) })],
  ] as const)('can be had as long as the limit of the %s is not exceeded with it', async (scope, set) => {
    const checked = async () => {
      const check = await admin((api) => api.resourcePreset.check(checkPresetsSchema.parse({ project: 'default' })));
      const [found] = check.presets;
      return [check[scope].using.cpu ?? '0', check[scope].remaining.cpu, found?.allocatable, found?.allocatableIn];
    };
    await run(cpu(1));
    await set(3);
    expect(await checked()).toEqual(['1', '2', true, ['default']]);
    await set(2);
    expect(await checked()).toEqual(['1', '1', false, []]);
  });
});
