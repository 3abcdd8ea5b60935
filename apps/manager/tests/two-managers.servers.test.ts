import { agentFeatures, type CreateSessionInput, type SessionView, type UserActor } from '@backend.ai/contract';
import type { Leases } from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Manager } from '../src/index.ts';
import type { FakeAgent } from './fake-agent.ts';
import { addMember, apiOf } from './tenancy-world.ts';
import { type TestCoordination, testCoordination } from './test-coordination.ts';
import { createWorld, type World, type WorldOptions } from './world.ts';

/** Two managers on PostgreSQL, Redis and etcd, of which one leads: what is asked of the other one is done all the same. */

interface Pair {
  readonly world: World;
  readonly leader: Manager;
  readonly other: Manager;
  /** Of the other one, for agents. */
  readonly otherAddress: string;
}

async function createPair(options: WorldOptions = {}): Promise<Pair> {
  const world = await createWorld({ coordination: await testCoordination(), ...options });
  const { manager: other, address: otherAddress } = await world.addManager();
  const leader = world.manager;
  expect([leader, other].map(({ services }) => services.leaderEpoch() !== undefined)).toEqual([true, false]);
  return { world, leader, other, otherAddress };
}

/** What no event brings about takes longer than a test may. */
const byEventsAlone = { tickMs: 120_000 };
const large = { slots: { cpu: '400', mem: String(400 * 1024 ** 3) } };
const small = { cpu: '1', mem: '64m' };
const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const endAll = (manager: Manager): Promise<number> =>
  inRequest(() => manager.services.endAllSessions('user-requested', 60_000));
/** Of the default project, made through this manager. */
async function addTenant(world: World, manager: Manager): Promise<UserActor> {
  const { actor } = await addMember({ ...world, manager }, 'default');
  await apiOf(
    { manager },
    world.admin,
  )((api) => api.admin.project.addMembers({ project: 'default', users: [actor.email] }));
  return actor;
}
/** Now one, now the other. */
const inTurn = <T>(all: readonly [T, T], nth: number): T => all[nth % 2] as T;

describe('asked of the manager that does not lead', () => {
  let coordination: TestCoordination;
  let world: World;
  let leader: Manager;
  let other: Manager;
  let agents: FakeAgent[];

  beforeAll(async () => {
    // What a manager is not told of it knows for an hour.
    coordination = (await testCoordination())!;
    const pair = await createPair({ coordination, config: { keypairCacheMs: 3_600_000, ...byEventsAlone } });
    ({ world, leader, other } = pair);
    const keeps = { features: [agentFeatures.warmSlots] };
    agents = [
      await world.addAgent('i-one', keeps),
      await world.addAgent('i-two', { ...keeps, managerAddress: pair.otherAddress }),
    ];
  });
  afterAll(() => world.close());
  afterEach(async () => {
    await endAll(other);
    expect(await other.services.verifyLedger()).toEqual([]);
    expect(other.services.leaderEpoch()).toBeUndefined();
  });

  const at = (manager: Manager, actor: UserActor = world.admin) => apiOf({ manager }, actor);
  const create = async (input: Partial<CreateSessionInput> = {}, manager = other, actor?: UserActor) =>
    (await at(manager, actor)((api) => api.session.create({ image: 'python', ...input }))).session.id;
  const destroy = (session: string) => at(other)((api) => api.session.destroy({ session, forced: false }));
  /** As both managers see it once it is there. */
  async function untilAtBoth(session: string, until: 'running' | 'ended'): Promise<SessionView> {
    const [one, two] = await Promise.all(
      [leader, other].map((manager) => at(manager)((api) => api.session.wait({ session, until, timeoutMs: 60_000 }))),
    );
    expect(one).toEqual(two);
    return one!;
  }
  const running = async (...given: Parameters<typeof create>): Promise<SessionView> => {
    const view = await untilAtBoth(await create(...given), 'running');
    expect(view.status).toBe('RUNNING');
    return view;
  };
  const agentOf = ({ kernels }: SessionView): FakeAgent => agents.find(({ id }) => id === kernels[0]?.agent)!;

  it('a session over several agents starts, and ends with all its kernels', async () => {
    const { id, kernels } = await running({ clusterMode: 'multi-node', clusterSize: 3, resources: { cpu: 2 } });
    expect(new Set(kernels.map(({ agent }) => agent))).toEqual(new Set(['i-one', 'i-two']));
    await destroy(id);
    expect((await untilAtBoth(id, 'ended')).status).toBe('TERMINATED');
    expect(agents.map((agent) => agent.kernels.size)).toEqual([0, 0]);
  });

  it('a session takes the place of others, by rules that were made there', async () => {
    const setPreemption = (enabled: boolean) =>
      at(other)((api) => api.admin.resourceGroup.modify({ name: 'default', options: { preemption: { enabled } } }));
    await setPreemption(true);
    const victims = [await running({ resources: { cpu: 4 } }), await running({ resources: { cpu: 4 } })];
    await running({ resources: { cpu: 4 }, jobPriority: 5 });
    const left = await waitFor(
      async () => {
        const seen = await Promise.all(victims.map(({ id }) => at(leader)((api) => api.session.get({ session: id }))));
        return seen.filter(({ status }) => status === 'TERMINATED');
      },
      { what: 'who had to leave' },
    );
    expect(left.map(({ reason }) => reason.code)).toEqual(['preempted']);
    expect(await untilAtBoth(left[0]!.id, 'ended')).toMatchObject({ reason: { code: 'preempted' } });
    await setPreemption(false);
  });

  it('templates are stored, and make sessions at either manager', async () => {
    const payload = JSON.stringify({
      ...{ api_version: '6', kind: 'task_template', metadata: { name: 'base', tag: 'first' } },
      spec: { kernel: { image: 'python' }, resources: { cpu: 1 } },
    });
    const [made] = await at(other)((api) => api.sessionTemplate.create({ payload }));
    const get = (manager: Manager) => at(manager)((api) => api.sessionTemplate.get({ template: 'base' }));
    expect(await get(leader)).toEqual(made);
    await at(other)((api) =>
      api.sessionTemplate.modify({ template: 'base', payload: payload.replace('first', 'second') }),
    );
    for (const manager of [leader, other]) {
      const { session } = await get(manager);
      expect(
        await running({ ...session, name: `of-${newId()}` } as Partial<CreateSessionInput>, manager),
      ).toMatchObject({
        tag: 'second',
      });
    }
    await at(other)((api) => api.sessionTemplate.delete({ template: 'base' }));
    await expect(get(leader)).rejects.toMatchObject({ code: 'object-not-found' });
  });

  it('what sessions use is recorded once', async () => {
    const { id } = await running();
    await destroy(id);
    await untilAtBoth(id, 'ended');
    const from = new Date(Date.now() - 86_400_000).toISOString();
    const to = new Date(Date.now() + 86_400_000).toISOString();
    const report = async (manager: Manager) =>
      (await at(manager)((api) => api.usage.report({ from, to, by: 'session' }))).rows.filter((row) => row.id === id);
    const rows = await report(other);
    expect(rows).toMatchObject([{ sessions: 1 }]);
    expect(Number(rows[0]?.used.cpu)).toBeGreaterThan(0);
    expect(await report(leader)).toEqual(rows);
  });

  it('changes of users, key pairs and policies count at the one that leads at once', async () => {
    const actor = await addTenant(world, other);
    const { accessKey, email } = actor;
    const known = () => leader.services.keypairs.find(accessKey);
    expect((await known())?.actor.role).toBe('user');
    await at(other)((api) => api.admin.user.modify({ user: email, role: 'admin' }));
    await waitFor(async () => (await known())?.actor.role === 'admin', { what: 'the new role' });

    await at(other)((api) => api.admin.resourcePolicy.keypair.create({ name: 'one', maxConcurrentSessions: 1 }));
    await at(other)((api) => api.admin.keypair.modify({ accessKey, resourcePolicy: 'one' }));
    await running({}, leader, actor);
    const waiting = await create({}, leader, actor);
    const reasonAt = async (manager: Manager) =>
      (await at(manager)((api) => api.session.get({ session: waiting }))).reason.code;
    await waitFor(async () => (await reasonAt(leader)) === 'quota-exceeded', { what: 'the reason' });
    expect(await reasonAt(other)).toBe('quota-exceeded');
    await at(other)((api) => api.admin.resourcePolicy.keypair.modify({ name: 'one', maxConcurrentSessions: 2 }));
    expect((await untilAtBoth(waiting, 'running')).status).toBe('RUNNING');

    await at(other)((api) => api.admin.keypair.modify({ accessKey, isActive: false }));
    await waitFor(async () => (await known()) === undefined, { what: 'the leader has forgotten the key pair' });
  });

  it('dotfiles are in sessions that are created at either manager', async () => {
    const file = { path: '.vimrc', content: 'set nu', permission: '600' };
    await at(other)((api) => api.dotfile.create(file));
    for (const manager of [leader, other]) {
      const view = await running({}, manager);
      expect(agentOf(view).kernels.get(view.kernels[0]!.id)?.spec.dotfiles).toEqual([
        { path: '.vimrc', mode: '600', content: 'set nu' },
      ]);
    }
    await at(other)((api) => api.dotfile.delete({ path: '.vimrc' }));
    expect(await at(leader)((api) => api.dotfile.list())).toEqual([]);
  });

  it.each(['success', 'failure'] as const)('a batch job that ends with %s is told at both', async (result) => {
    const jobs = await Promise.all(
      agents.map(({ id }) => running({ type: 'batch', startupCommand: 'make', designatedAgents: [id] })),
    );
    for (const job of jobs) agentOf(job).finishBatch(job.kernels[0]!.id, result);
    for (const { id } of jobs) expect(await untilAtBoth(id, 'ended')).toMatchObject({ status: 'TERMINATED', result });
  });

  it('use of a session counts: idle checkers end another one that nobody uses', async () => {
    const [used, unused] = [(await running()).id, (await running()).id];
    await world.database.db.execute(sql`update sessions set started_at = now() - interval '3 hours'`);
    for (const id of [used, unused])
      await world.liveValues().set(`session:${id}:last-access`, String(Date.now() - 2 * 3_600_000));
    await at(other)((api) => api.session.execute({ session: used, mode: 'query', code: '1' }));
    const lastUse = async () => Number(await world.liveValues().get(`session:${used}:last-access`));
    await waitFor(async () => (await lastUse()) > Date.now() - 3_600_000, { what: 'the use is known' });
    // As an operator sets them.
    const operator = await coordination.open(world.database);
    onTestFinished(() => operator.close());
    await operator.configStore.put('config/idle/checkers/network_timeout/threshold', '1h');
    await operator.configStore.put('config/idle/enabled', 'network_timeout');
    await waitFor(
      async () => {
        await leader.services.settle();
        return (await at(other)((api) => api.session.get({ session: unused }))).status !== 'RUNNING';
      },
      { what: 'the leader has judged it' },
    );
    expect(await untilAtBoth(unused, 'ended')).toMatchObject({ reason: { code: 'idle-timeout' } });
    for (const manager of [leader, other]) {
      await waitFor(
        async () => {
          const { checks } = await at(manager)((api) => api.session.idle({ session: used }));
          return checks.some(({ checker, verdict }) => checker === 'network_timeout' && verdict === 'active');
        },
        { what: 'the verdict' },
      );
    }
    await operator.configStore.delete('config/idle/enabled');
  });

  it('a warm pool is filled, gives a slot to a session, and goes', async () => {
    const pool = { name: 'warm', resourceGroup: 'default', image: 'python', resources: small };
    await at(other)((api) => api.admin.warmPool.create({ ...pool, size: 2 }));
    const ready = async (manager: Manager) => (await at(manager)((api) => api.admin.warmPool.list()))[0]?.ready;
    for (const manager of [leader, other])
      await waitFor(async () => (await ready(manager)) === 2, { what: 'slots that are ready' });
    const slots = agents.flatMap((agent) => [...agent.warmSlots.keys()]);
    const { kernels } = await running({ resources: small });
    expect(slots).toContain(kernels[0]!.id);
    expect(agents.flatMap(({ claims }) => claims)).toEqual([kernels[0]!.id]);
    await at(other)((api) => api.admin.warmPool.delete({ name: 'warm' }));
    await waitFor(() => agents.every(({ warmSlots }) => warmSlots.size === 0), { what: 'the slots are gone' });
    expect(await ready(leader)).toBeUndefined();
  });
});

describe('two managers that are asked at the same time', () => {
  let pair: Pair;
  let both: readonly [Manager, Manager];
  let agents: FakeAgent[];

  beforeAll(async () => {
    pair = await createPair({ config: byEventsAlone });
    both = [pair.leader, pair.other];
    agents = [
      await pair.world.addAgent('i-one', large),
      await pair.world.addAgent('i-two', { ...large, managerAddress: pair.otherAddress }),
    ];
  });
  afterAll(() => pair.world.close());
  afterEach(async () => {
    await endAll(pair.other);
    expect(await pair.leader.services.verifyLedger()).toEqual([]);
  });

  it('make one session of 200 creations of one name', async () => {
    const { world } = pair;
    const made = await Promise.all(
      Array.from({ length: 200 }, (_, nth) =>
        apiOf(
          { manager: inTurn(both, nth) },
          world.admin,
        )((api) => api.session.create({ image: 'python', name: 'once' })),
      ),
    );
    expect(made.filter(({ created }) => created)).toHaveLength(1);
    const [id, ...others] = new Set(made.map(({ session }) => session.id));
    expect(others).toEqual([]);
    await world.until(id!, 'RUNNING');
    const rows = await world.database.db.execute(sql`select id from sessions where name = 'once'`);
    expect([...rows]).toEqual([{ id }]);
    expect(agents.flatMap(({ starts }) => starts)).toHaveLength(1);
  });

  it('never let sessions pass the limits of a policy', async () => {
    const { world } = pair;
    const { db } = world.database;
    const superadmin = apiOf(world, world.admin);
    const limits = {
      few: { maxConcurrentSessions: 3 },
      narrow: { totalResourceSlots: { cpu: 4 } },
    };
    const members = await Promise.all(
      Object.entries(limits).map(async ([name, policy]) => {
        const actor = await addTenant(world, pair.other);
        const { accessKey } = actor;
        await superadmin((api) => api.admin.resourcePolicy.keypair.create({ name, ...policy }));
        await superadmin((api) => api.admin.keypair.modify({ accessKey, resourcePolicy: name }));
        return actor;
      }),
    );
    const held = () =>
      db.execute<{ key: string; sessions: number; cpu: number }>(sql`
        select s.access_key as key, count(distinct s.id)::int as sessions,
          sum(a.amount) filter (where a.slot_name = 'cpu')::int as cpu
        from resource_allocations a join kernels k on k.id = a.kernel_id join sessions s on s.id = k.session_id
        where a.free_at is null group by s.access_key`);
    const most = new Map<string, { sessions: number; cpu: number }>();
    let over = false;
    const watching = (async () => {
      while (!over) {
        for (const { key, sessions, cpu } of await held()) {
          const before = most.get(key) ?? { sessions: 0, cpu: 0 };
          most.set(key, { sessions: Math.max(before.sessions, sessions), cpu: Math.max(before.cpu, cpu) });
        }
        expect(await pair.other.services.verifyLedger()).toEqual([]);
      }
    })();

    const call = (nth: number, actor: UserActor) => apiOf({ manager: inTurn(both, nth) }, actor);
    const create = async (actor: UserActor, nth: number) => {
      const resources = { cpu: String(1 + (nth % 2)), mem: '64m' };
      const input = { image: 'python', name: `limited-${nth}`, resources };
      return { actor, nth, id: (await call(nth, actor)((api) => api.session.create(input))).session.id };
    };
    const goThrough = async ({ actor, nth, id }: Awaited<ReturnType<typeof create>>): Promise<void> => {
      const wait = async (until: 'running' | 'ended') =>
        (await call(nth, actor)((api) => api.session.wait({ session: id, until, timeoutMs: 60_000 }))).status;
      expect(await wait('running')).toBe('RUNNING');
      await call(nth + 1, actor)((api) => api.session.destroy({ session: id, forced: nth % 3 === 0 }));
      expect(await wait('ended')).toBe('TERMINATED');
    };
    const [few, narrow] = members.map(({ accessKey }) => accessKey);
    try {
      const numbers = Array.from({ length: 20 }, (_, nth) => nth);
      const sessions = await Promise.all(members.flatMap((actor) => numbers.map((nth) => create(actor, nth))));
      await waitFor(() => most.get(few!)?.sessions === 3 && most.get(narrow!)?.cpu === 4, {
        what: 'as many as may be',
      });
      await Promise.all(sessions.map(goThrough));
    } finally {
      over = true;
      await watching;
    }
    expect([most.get(few!)?.sessions, most.get(narrow!)?.cpu]).toEqual([3, 4]);
  });
});

describe('a leader that ends in the middle of the work of both', () => {
  /** From when it is cut off on nothing is given back and no loss is heard of: as by a process that is killed or paused. */
  const leasesOf =
    (lost: AbortSignal) =>
    (real: Leases): Leases => ({
      async acquire(...args) {
        const lease = await real.acquire(...args);
        const renew = async (): Promise<boolean> => lost.aborted || (await lease!.renew());
        const release = async (): Promise<void> => (lost.aborted ? undefined : await lease!.release());
        return lease && { ...lease, renew, release };
      },
    });

  const ends = {
    'is stopped without giving its lease back': ({ leader }: Pair) => leader.close(),
    'has lost its lease and goes on': async () => {},
    'has lost Redis, etcd and its lease and goes on': ({ world }: Pair) => world.loseStores(),
  };
  it.each(Object.entries(ends))(
    '%s leaves nothing half done: the other leads, each session gets where it should, and starts once',
    async (what, end) => {
      const cut = new AbortController();
      const pair = await createPair({ leases: leasesOf(cut.signal), config: { leaderTtlMs: 2_000 } });
      const { world, leader, other, otherAddress } = pair;
      onTestFinished(() => world.close());
      const agents = [
        await world.addAgent('i-one', { ...large, managerAddress: otherAddress }),
        await world.addAgent('i-two', { ...large, managerAddress: otherAddress }),
      ];
      let asked: readonly [Manager, Manager] = [leader, other];
      const call = (nth: number) => apiOf({ manager: inTurn(asked, nth) }, world.admin);
      const leads = (): boolean => other.services.leaderEpoch() !== undefined;
      let created = 0;
      const create = async (): Promise<string> => {
        created += 1;
        return (await call(created)((api) => api.session.create({ image: 'python', resources: small }))).session.id;
      };
      const reached = async (session: string, until: 'running' | 'ended') =>
        (await apiOf({ manager: other }, world.admin)((api) => api.session.wait({ session, until, timeoutMs: 60_000 })))
          .status;
      /** Creates the next and destroys the last one, until the other has led for some of them. */
      const stream = async (): Promise<void> => {
        let last = await create();
        for (let after = 0; after < 3; after += leads() ? 1 : 0) {
          const [next] = await Promise.all([
            create(),
            call(created)((api) => api.session.destroy({ session: last, forced: false })),
          ]);
          expect(['TERMINATED', 'CANCELLED']).toContain(await reached(last, 'ended'));
          expect(await reached(next, 'running')).toBe('RUNNING');
          last = next;
        }
      };
      const streams = Array.from({ length: 10 }, stream);
      const done = Promise.all(streams);
      await waitFor(() => created >= 50, { what: 'all are in the middle of it' });
      const isThere = !what.startsWith('is stopped');
      if (!isThere) asked = [other, other];
      cut.abort();
      await Promise.all([end(pair), done]);

      expect(leads()).toBe(true);
      // Where it is still there it believes that it leads.
      expect(leader.services.leaderEpoch() !== undefined).toBe(isThere);
      expect(await other.services.verifyLedger()).toEqual([]);
      const starts = agents.flatMap((agent) => agent.starts);
      expect(new Set(starts).size).toBe(starts.length);
      expect(starts.length).toBeLessThanOrEqual(created);
      expect(agents.reduce((sum, agent) => sum + agent.kernels.size, 0)).toBe(streams.length);
      const { used } = await call(1)((api) => api.cluster.status());
      expect(used.cpu).toBe(String(streams.length));
      await endAll(other);
      expect(agents.map((agent) => agent.kernels.size)).toEqual([0, 0]);
    },
  );
});
