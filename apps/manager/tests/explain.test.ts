import { isDeepStrictEqual } from 'node:util';
import { createSessionSchema, type SessionExplanation, type UserActor, type WaitingCode } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { AgentRepository } from '../src/repositories/agents.ts';
import { QueueRepository } from '../src/repositories/queue.ts';
import type { FakeAgent } from './fake-agent.ts';
import { type ApiCaller, addMember, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let one: FakeAgent;

beforeAll(async () => {
  world = await createWorld({ config: { refusalBackoffMs: 2_000, refusalBackoffMaxMs: 2_000 } });
  one = await world.addAgent('i-one', { slots: { cpu: '4', mem: '4294967296' } });
  for (const name of ['empty', 'imageless', 'elsewhere', 'apart'])
    await admin((api) => api.admin.resourceGroup.create({ name }));
  await admin((api) => api.admin.resourceGroup.create({ name: 'fenced', egress: { policy: 'none' } }));
});
afterAll(() => world.close());
afterEach(async () => {
  one.behaviour = 'start';
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  await admin((api) => api.admin.resourceGroup.modify({ name: 'default', options: {} }));
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const admin = <T>(work: (api: ApiCaller) => Promise<T>): Promise<T> => apiOf(world, world.admin)(work);
const create = (actor: UserActor, input: object) =>
  apiOf(
    world,
    actor,
  )((api) =>
    api.session.create(
      createSessionSchema.parse({
        image: 'python',
        architecture: 'x86_64',
        resourceGroup: 'default',
        ...input,
      }),
    ),
  );
const explain = (session: string, actor: UserActor = world.admin): Promise<SessionExplanation> =>
  apiOf(world, actor)((api) => api.session.explain({ session }));
const destroy = (session: string) => admin((api) => api.session.destroy({ session }));
const openFor = (agent: string, schedulable: boolean) =>
  admin((api) => api.admin.agent.modify({ id: agent, schedulable }));
const join = async (resourceGroup: string, agent: string, options: Parameters<World['addAgent']>[1] = {}) => {
  const joined = await world.addAgent(agent, options);
  await admin((api) => api.admin.agent.modify({ id: agent, resourceGroup }));
  return joined;
};

/** The explanation once the code is its first reason. */
const explained = (session: string, code: WaitingCode, actor?: UserActor): Promise<SessionExplanation> =>
  waitFor(
    async () => {
      const explanation = await explain(session, actor);
      return explanation.waiting?.reasons[0]?.code === code && explanation;
    },
    { what: `${session} is explained by ${code}` },
  );
const changeOf = <Kind extends string>({ waiting }: SessionExplanation, kind: Kind) => {
  const found = waiting?.ways.flat().find((change) => change.kind === kind);
  if (!found) throw new Error(`no way with ${kind}: ${JSON.stringify(waiting?.ways)}`);
  return found.facts as Extract<NonNullable<typeof waiting>['ways'][number][number], { kind: Kind }>['facts'];
};

interface Case {
  /** Makes a session that waits, and says what it is told and what brings about the change that was proposed. */
  readonly make: () => Promise<{ readonly session: string; readonly cure: (told: SessionExplanation) => unknown }>;
}

const image = (name: string, architecture = 'x86_64') => ({
  ...{ name, architecture, aliases: [], language: 'python' as const },
  minSlots: { cpu: '1', mem: '67108864' },
});
const id = async (input: object = {}): Promise<string> => (await create(world.admin, input)).session.id;
const running = async (input: object = {}): Promise<string> => (await world.until(await id(input), 'RUNNING')).id;

const cases: Readonly<Partial<Record<WaitingCode, Case['make']>>> = {
  'agent-refused': async () => {
    one.behaviour = 'refuse';
    return {
      session: await id(),
      async cure(told) {
        expect(told.waiting?.estimate.basis).toBe('start-moment');
        expect(changeOf(told, 'wait-until').at).toBe(told.waiting?.estimate.at);
        const why = 'i-one refused it: The agent is full. It is tried again at';
        await waitFor(async () => (await explain(told.sessionId)).headline.includes(why), { what: why });
        one.behaviour = 'start';
      },
    };
  },
  'starts-later': async () => {
    const startsAt = new Date(Date.now() + 8_000).toISOString();
    return {
      session: await id({ type: 'batch', startupCommand: 'true', startsAt }),
      cure: (told) => expect(changeOf(told, 'wait-until').at).toBe(startsAt),
    };
  },
  'dependency-unfinished': async () => {
    const first = await running({ type: 'batch', startupCommand: 'true', name: 'first-job' });
    return {
      session: await id({ dependencies: [first] }),
      cure(told) {
        const { known } = changeOf(told, 'wait-for-dependencies').sessions;
        expect(known).toEqual([{ id: first, name: 'first-job' }]);
        expect(told.headline).toContain('first-job');
        one.finishBatch([...one.kernels.keys()].at(-1) ?? '', 'success');
      },
    };
  },
  'quota-exceeded': async () => {
    const limit = (maxConcurrentSessions: string) =>
      world.database.db.execute(
        sql`update keypair_resource_policies set max_concurrent_sessions = ${maxConcurrentSessions}::int`,
      );
    await limit('1');
    await running();
    return {
      session: await id(),
      async cure(told) {
        const { scope, slot, to } = changeOf(told, 'raise-quota');
        expect([scope, slot]).toEqual(['keypair', 'sessions']);
        await limit(to);
        await world.until(told.sessionId, 'RUNNING');
        await limit('0');
      },
    };
  },
  'no-agent': async () => ({
    session: await id({ resourceGroup: 'empty' }),
    cure: async (told) => await join('empty', 'i-new', { slots: changeOf(told, 'add-agent').slots }),
  }),
  'no-agent-alive': async () => {
    await openFor('i-one', false);
    return { session: await id(), cure: () => openFor('i-one', true) };
  },
  'no-agent-enforces-egress': async () => {
    await join('fenced', 'i-open');
    return {
      session: await id({ resourceGroup: 'fenced' }),
      async cure(told) {
        expect(told.headline).toContain('the egress policy of the resource group fenced');
        expect(told.waiting?.agents.byObstacle).toEqual([{ obstacle: 'egress-unenforced', agents: 1 }]);
        await join('fenced', 'i-fenced', { slots: changeOf(told, 'add-agent').slots, enforcesEgress: true });
      },
    };
  },
  'no-agent-of-architecture': async () => {
    await join('elsewhere', 'i-arm', { architecture: 'aarch64' });
    return {
      session: await id({ resourceGroup: 'elsewhere', architecture: 'x86_64' }),
      async cure(told) {
        const { architecture, slots } = changeOf(told, 'add-agent');
        await join('elsewhere', 'i-intel', { architecture, slots });
      },
    };
  },
  'no-agent-with-image': async () => {
    await join('imageless', 'i-node', { images: [image('local/node:22')] });
    return {
      session: await id({ resourceGroup: 'imageless' }),
      async cure(told) {
        const { images, slots } = changeOf(told, 'add-agent');
        expect(images).toEqual(['x86_64 local/python:3.11']);
        await join('imageless', 'i-python', { slots });
      },
    };
  },
  'designated-agent-unavailable': async () => {
    await openFor('i-one', false);
    await world.addAgent('i-two');
    return {
      session: await id({ designatedAgents: ['i-one'] }),
      async cure(told) {
        expect(changeOf(told, 'drop-designation')).toEqual({});
        await openFor('i-two', false);
        await openFor('i-one', true);
      },
    };
  },
  'exceeds-agents': async () => {
    await world.addAgent('i-large', { slots: { cpu: '8', mem: '4294967296' } });
    const holder = await running({ resources: { cpu: 8 } });
    const session = await id({ resources: { cpu: 6 } });
    // Nobody may ask for what no agent has; it may become so.
    await explained(session, 'insufficient-resources');
    await openFor('i-large', false);
    return {
      session,
      async cure(told) {
        expect(told.headline).toContain('6 cpu asked, at most 4 cpu');
        expect(changeOf(told, 'add-agent').slots).toMatchObject({ cpu: '6' });
        await destroy(holder);
        await openFor('i-large', true);
        await world.until(session, 'RUNNING');
        await openFor('i-large', false);
      },
    };
  },
  'insufficient-resources': async () => {
    const holder = await running({ resources: { cpu: 3 }, name: 'the-holder' });
    return {
      session: await id({ resources: { cpu: 2 } }),
      cure(told) {
        expect(changeOf(told, 'reduce-request')).toMatchObject({ slot: 'cpu', from: '2', to: '1' });
        const { sessions } = changeOf(told, 'wait-for-sessions');
        expect(sessions).toEqual({ known: [{ id: holder, name: 'the-holder' }], others: 0 });
        return destroy(sessions.known[0]?.id ?? '');
      },
    };
  },
  'kernel-limit-reached': async () => {
    const limit = (maxKernelsPerAgent: number) =>
      admin((api) => api.admin.resourceGroup.modify({ name: 'default', options: { maxKernelsPerAgent } }));
    await limit(1);
    await running();
    return { session: await id(), cure: () => limit(2) };
  },
  'no-common-network': async () => {
    const capacity = { slots: { cpu: '2', mem: '4294967296' }, backend: 'docker' } as const;
    const left = await join('apart', 'i-left', capacity);
    const right = await join('apart', 'i-right', capacity);
    const resources = { cpu: 2 };
    return {
      session: await id({ resourceGroup: 'apart', clusterMode: 'multi-node', clusterSize: 2, resources }),
      async cure(told) {
        expect(told.headline).toContain('engines of one swarm');
        left.swarm = { nodeId: 'left', swarmId: 'one', managers: ['left'] };
        right.swarm = { nodeId: 'right', managers: ['left'] };
        await Promise.all([left.register(), right.register()]);
      },
    };
  },
  'behind-head-of-line': async () => {
    await running({ resources: { cpu: 3 } });
    const head = await id({ resources: { cpu: 4 }, name: 'the-head' });
    await explained(head, 'insufficient-resources');
    return {
      session: await id({ resources: { cpu: 1 } }),
      cure(told) {
        expect(changeOf(told, 'go-first')).toEqual({ priority: 11 });
        expect(told.waiting).toMatchObject({ position: 2, queueLength: 2, agents: { open: 1 } });
        expect(told.headline).toContain('the-head');
        return destroy(head);
      },
    };
  },
};

describe('a session that waits', () => {
  it.each(Object.entries(cases))(
    'for %s is told so, and starts when what it is told comes about',
    async (code, make) => {
      const { session, cure } = await make();
      const told = await explained(session, code as WaitingCode);
      expect(told.status).toBe('PENDING');
      expect(told.waiting?.ways.length).toBeGreaterThan(0);
      // An explanation is computed when it is asked for: the leader may come to the session only later.
      const codes = async () => (await explain(session)).reasons.map((entry) => entry.code);
      await waitFor(async () => (await codes()).includes(code), { what: `${session} has waited for ${code}` });
      await cure(told);
      await world.until(session, 'RUNNING');
      const { headline, waiting, placement } = await explain(session);
      expect(headline).toContain('is RUNNING');
      expect(waiting).toBeNull();
      // One for a whole session, one for each kernel over several agents.
      expect(placement?.decisions.length).toBeGreaterThan(0);
      for (const decision of placement?.decisions ?? [])
        expect(decision).toMatchObject({ strategy: 'dispersed', candidates: expect.any(Number) });
      // The whole way, with what it waited for.
      expect(await codes()).toEqual(expect.arrayContaining(['queued', code, 'started']));
    },
  );

  it.each([
    [
      'dependency-failed',
      async () => {
        const first = await running({ type: 'batch', startupCommand: 'false' });
        const session = await id({ dependencies: [first] });
        await explained(session, 'dependency-unfinished');
        one.finishBatch([...one.kernels.keys()].at(-1) ?? '', 'failure');
        return session;
      },
    ],
    [
      'pending-timeout',
      async () => {
        await running({ resources: { cpu: 4 } });
        const session = await id({ resources: { cpu: 4 } });
        await explained(session, 'insufficient-resources');
        await admin((api) => api.admin.resourceGroup.modify({ name: 'default', options: { pendingTimeout: 1 } }));
        return session;
      },
    ],
  ] as const)('for what cannot come any more is given up, and %s is what it is told afterwards', async (code, make) => {
    const session = await make();
    await world.until(session, 'CANCELLED');
    const { waiting, reasons, headline } = await explain(session);
    expect(waiting).toBeNull();
    expect(headline).toContain('is CANCELLED');
    expect(reasons.at(-1)).toMatchObject({ status: 'CANCELLED', code });
  });
});

describe('a session that has ended', () => {
  const ends: ReadonlyArray<readonly ['TERMINATED' | 'ERROR', string, () => Promise<string>]> = [
    [
      'TERMINATED',
      'user-requested',
      async () => {
        const session = await running();
        await destroy(session);
        return session;
      },
    ],
    [
      'ERROR',
      'start-failed',
      async () => {
        one.behaviour = 'fail';
        return await id();
      },
    ],
  ];

  it.each(ends)('as %s still tells where it was placed, when and why, at each manager', async (status, code, make) => {
    const session = await make();
    await world.until(session, status);
    const told = await explain(session);
    expect(told).toMatchObject({ status, waiting: null, reserved: null });
    expect(told.headline).toContain(`is ${status}`);
    expect(told.reasons.at(-1)).toMatchObject({ status, code });
    const placed = told.reasons.find((reason) => reason.status === 'SCHEDULED');
    expect(told.placement).toMatchObject({
      at: placed?.at,
      decisions: [{ agentId: 'i-one', strategy: 'dispersed', suitable: 1, candidates: 1, rank: [0, 0] }],
      backfilled: false,
      victims: null,
    });
    // What was free before it was there.
    expect(told.placement?.decisions[0]?.key).toEqual({ unutilised: 0, free: { cpu: '4', mem: '4294967296' } });
    const other = await world.addManager();
    expect(other.manager.services.leaderEpoch()).toBeUndefined();
    const ctx = world.ctx();
    const asked = { requestId: ctx.requestId };
    expect(await runWithRequest(asked, () => other.manager.services.api.session.explain({ session }, ctx))).toEqual(
      told,
    );
  });
});

describe('an explanation', () => {
  it('counts sessions of others and names no agents to users; superadmins see both', async () => {
    const { actor: user } = await addMember(world, 'default');
    await admin((api) => api.admin.project.addMembers({ project: 'default', users: [user.email] }));
    await running({ resources: { cpu: 3 }, name: 'secret-name' });
    const { session } = await create(user, { resources: { cpu: 2 } });
    const told = await explained(session.id, 'insufficient-resources', user);
    expect(changeOf(told, 'wait-for-sessions')).toEqual({ sessions: { known: [], others: 1 } });
    expect(told.waiting?.agents.nearest).toContainEqual({
      agent: null,
      obstacles: ['lacks-resources'],
      lacking: { cpu: { asked: '2', free: '1', capacity: '4' } },
    });
    expect(JSON.stringify(told)).not.toMatch(/secret-name|i-one/);
    const seen = await explained(session.id, 'insufficient-resources');
    expect(changeOf(seen, 'wait-for-sessions').sessions.known).toMatchObject([{ name: 'secret-name' }]);
    expect(seen.waiting?.agents.nearest.map(({ agent }) => agent)).toContain('i-one');
    await expect(explain(session.id, { ...user, userId: newId(), accessKey: 'AKIAOTHER' })).rejects.toMatchObject({
      code: 'session-not-found',
    });
  });

  it('expects a start as sessions of the group started lately, once there were enough of them, and says so', async () => {
    for (let i = 0; i < 5; i++) {
      const done = await running({ resources: { cpu: 1 } });
      await admin((api) => api.session.destroy({ session: done, forced: false }));
      await world.until(done, 'TERMINATED');
    }
    await running({ resources: { cpu: 4 } });
    // One each ten minutes, the last one just now.
    await world.database.db.execute(sql`
      update sessions s set started_at = now() - o.nth * interval '10 minutes'
      from (select id, row_number() over (order by id desc) - 1 as nth from sessions
          where started_at is not null and resource_group = 'default') o
      where o.id = s.id`);
    const session = await id({ resources: { cpu: 4 } });
    const { waiting } = await explained(session, 'insufficient-resources');
    expect(waiting?.estimate.basis).toBe('history');
    const inMinutes = (Date.parse(waiting!.estimate.at!) - Date.now()) / 60_000;
    expect(inMinutes).toBeGreaterThan(8);
    expect(inMinutes).toBeLessThan(11);
    expect((await explain(session)).waiting?.estimate).toEqual(waiting?.estimate);
    // Nobody started for so long that what was expected has not come true.
    await world.database.db.execute(sql`update sessions set started_at = started_at - interval '1 hour'`);
    await world.database.db.execute(sql`
      update sessions set created_at = created_at - interval '1 hour', queued_at = queued_at - interval '1 hour'`);
    await world.restartManager();
    expect((await explained(session, 'insufficient-resources')).waiting?.estimate).toEqual({
      at: null,
      basis: 'unknown',
    });
  });

  it('tells who would have to leave for a session before it happens: own sessions by name, others counted', async () => {
    const limit = (sessions: number) =>
      world.database.db.execute(sql`update keypair_resource_policies set max_concurrent_sessions = ${sessions}::int`);
    const preempt = (mode: string) =>
      admin((api) =>
        api.admin.resourceGroup.modify({
          name: 'default',
          options: { preemption: { enabled: true, mode, victimScope: 'resource-group' } } as never,
        }),
      );
    const { actor: user } = await addMember(world, 'default');
    await admin((api) => api.admin.project.addMembers({ project: 'default', users: [user.email] }));
    const theirs = await running({ resources: { cpu: 3 }, name: 'secret-name' });
    const own = (await create(user, { resources: { cpu: 1 }, name: 'own-name' })).session.id;
    await world.until(own, 'RUNNING');
    await limit(1);
    try {
      const { session } = await create(user, { resources: { cpu: 4 }, jobPriority: 5 });
      const previewed = async (actor?: UserActor) =>
        (await explained(session.id, 'quota-exceeded', actor)).waiting?.preemption;
      expect(await previewed(user)).toBeNull();

      await preempt('reschedule');
      // The leader hears of options a moment after they are set.
      await waitFor(async () => (await previewed(user)) != null, { what: 'a preview' });
      const seenByUser = { known: [{ id: own, name: 'own-name' }], others: 1 };
      expect(await previewed(user)).toEqual({
        mode: 'reschedule',
        byNextPass: false,
        from: null,
        sessions: seenByUser,
        agents: [{ agent: null, placed: 1, ended: 2, sessions: seenByUser }],
      });
      expect(JSON.stringify(await explain(session.id, user))).not.toMatch(new RegExp(`secret-name|i-one|${theirs}`));
      const seen = await previewed();
      expect(seen?.agents.map(({ agent }) => agent)).toEqual(['i-one']);
      expect(seen?.sessions.others).toBe(0);
      expect(new Set(seen?.sessions.known.map(({ name }) => name))).toEqual(new Set(['own-name', 'secret-name']));

      await preempt('terminate');
      await waitFor(async () => (await previewed())?.mode === 'terminate', { what: 'the new mode' });
      await limit(0);
      await world.until(session.id, 'RUNNING');
      for (const victim of [theirs, own])
        expect((await world.until(victim, 'TERMINATED')).reason.code).toBe('preempted');
      expect((await explain(session.id, user)).waiting).toBeNull();
    } finally {
      await limit(0);
    }
  });

  it('is the same from a manager that does not lead, which reads everything once; the leader reads no table', async () => {
    await running({ resources: { cpu: 3 } });
    const session = await id({ resources: { cpu: 2 } });
    await explained(session, 'insufficient-resources');
    const other = await world.addManager();
    expect(other.manager.services.leaderEpoch()).toBeUndefined();
    const reads = [
      vi.spyOn(AgentRepository.prototype, 'list'),
      vi.spyOn(QueueRepository.prototype, 'pending'),
      vi.spyOn(QueueRepository.prototype, 'holding'),
    ];
    const readsDuring = async (work: () => Promise<unknown>): Promise<number[]> => {
      for (const read of reads) read.mockClear();
      await work();
      return reads.map((read) => read.mock.calls.length);
    };
    try {
      // Its tick reads as well: asked until one call falls between two of them.
      await waitFor(async () => (await readsDuring(() => explain(session))).every((count) => count === 0), {
        what: 'an explanation by the leader without a read',
      });
      const ctx = world.ctx();
      const strip = ({ waiting }: SessionExplanation) => ({ ...waiting, estimate: waiting?.estimate.basis });
      // Asked until both speak of one moment.
      await waitFor(
        async () => {
          const theirs = await runWithRequest({ requestId: ctx.requestId }, () =>
            other.manager.services.api.session.explain({ session }, ctx),
          );
          return isDeepStrictEqual(strip(theirs), strip(await explain(session)));
        },
        { what: 'equal explanations' },
      );
    } finally {
      for (const read of reads) read.mockRestore();
    }
  });
});
