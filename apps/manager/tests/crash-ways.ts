import type { ResourceGroupOptionsInput } from '@backend.ai/contract';
import { customizedImageName, hasCode, type SessionStatus, type StatusReason } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import type { FakeAgent } from './fake-agent.ts';
import { inRequest } from './session-commands.ts';
import type { World } from './world.ts';

/** The ways of a session that managers are killed on: who does what, and where that is to lead. */

export interface Scene {
  readonly world: World;
  /** Room for two sessions of 3 CPUs, or for a cluster of three kernels of 2; in one swarm. The first keeps warm slots. */
  readonly agents: readonly FakeAgent[];
}

type Doing<T> = (name: string, scene: Scene) => Promise<T>;

/** One part of a way: somebody does something, and then it is so. */
export interface Leg {
  /** Done again by whoever got no answer. */
  readonly act: Doing<unknown>;
  readonly reached: Doing<boolean>;
}

export interface Way {
  readonly what: string;
  /** Options of the resource group, beside the usual ones. */
  readonly group?: ResourceGroupOptionsInput;
  /** Before steps are counted. */
  readonly before?: readonly Leg[];
  readonly legs: readonly Leg[];
  /** Steps without which it is not the way that is meant. */
  readonly by: readonly string[];
  /** The deadlines that pass on it; on others none does. */
  readonly passes?: readonly StatusReason[];
}

/** Of warm slots that suit no other session here; without any but on its way. */
export const pool = { name: 'small', resourceGroup: 'default', image: 'python', resources: { cpu: '1', mem: '128m' } };
/** What waits or lives for so long goes. */
export const [longestWaitSec, longestLifeSec] = [3_600, 86_400];

interface Found {
  readonly id: string;
  readonly user: string;
  readonly status: SessionStatus;
  readonly reason: string;
  readonly result: string;
  readonly priority: number;
  readonly isPaused: boolean;
  readonly passed: Array<{ status: SessionStatus; reason: string }>;
  /** The main one first. */
  readonly kernels: Array<{ id: string; agent: string | null }>;
}

/** Past the manager, which may be dead. */
async function find(name: string, { world }: Scene): Promise<Found | undefined> {
  const [row] = await world.database.db.execute<Found & Record<string, unknown>>(sql`
    select s.id, s.user_id as user, s.status, s.status_reason as reason, s.result, s.priority,
      s.paused_at is not null as "isPaused",
      (select jsonb_agg(jsonb_build_object('status', h.to_status, 'reason', h.reason)) from session_history h
        where h.session_id = s.id and h.kernel_id is null) as passed,
      (select jsonb_agg(jsonb_build_object('id', k.id, 'agent', k.agent_id) order by k.cluster_role, k.cluster_index)
        from kernels k where k.session_id = s.id) as kernels
    from sessions s where s.name = ${name}`);
  return row;
}

const isSo =
  (condition: (found: Found, scene: Scene) => boolean): Doing<boolean> =>
  async (name, scene) => {
    const found = await find(name, scene);
    return found !== undefined && condition(found, scene);
  };
const isIn = (status: SessionStatus, reason?: string) =>
  isSo((found) => found.status === status && (reason === undefined || found.reason === reason));
const all =
  (...conditions: ReadonlyArray<Doing<boolean>>): Doing<boolean> =>
  async (name, scene) =>
    (await Promise.all(conditions.map((condition) => condition(name, scene)))).every(Boolean);
const ofOther =
  <T>(suffix: string, doing: Doing<T>): Doing<T> =>
  (name, scene) =>
    doing(`${name}-${suffix}`, scene);

const kernelsAt = (agents: readonly FakeAgent[]): string[] => agents.flatMap((agent) => [...agent.kernels.keys()]);
/** It runs, and agents have its kernels and no others. */
const runs = isSo(
  ({ status, kernels }, { agents }) =>
    status === 'RUNNING' &&
    kernelsAt(agents).sort().join() ===
      kernels
        .map(({ id }) => id)
        .sort()
        .join(),
);
const passed = (status: SessionStatus, reason?: StatusReason) =>
  isSo((found) => found.passed.some((one) => one.status === status && one.reason === (reason ?? one.reason)));
/** Its agents have been ordered to start it, and it goes no further by itself. */
const standsStill = isSo(
  ({ status, kernels }, { agents }) => status === 'PREPARING' && kernelsAt(agents).length === kernels.length,
);

async function kernelsOf(name: string, scene: Scene): Promise<Array<{ id: string; agent: FakeAgent }>> {
  const { kernels } = (await find(name, scene))!;
  return kernels.map(({ id, agent }) => ({ id, agent: scene.agents.find((one) => one.id === agent)! }));
}
const mainKernel: Doing<{ id: string; agent: FakeAgent }> = async (name, scene) => (await kernelsOf(name, scene))[0]!;

const create =
  (input: Parameters<World['create']>[0] = {}): Doing<unknown> =>
  (name, { world }) =>
    world.create({ name, reuseIfExists: true, ...input });
const asUser =
  (action: 'destroy' | 'restart' | 'pause' | 'resume', input: { readonly forced?: boolean } = {}): Doing<unknown> =>
  async (session, { world }) => {
    try {
      const given = { forced: false, ...input, session };
      await inRequest(() => world.manager.services.api.session[action](given, world.ctx()));
    } catch (error) {
      // What was done before its answer was lost.
      if (action !== 'destroy' || !hasCode(error, 'session-not-found')) throw error;
    }
  };
const behaving =
  (behaviour: Partial<Pick<FakeAgent, 'behaviour' | 'destroyBehaviour'>>): Doing<void> =>
  async (_name, { agents }) => {
    for (const agent of agents) Object.assign(agent, behaviour);
  };
const inTurn =
  (...doings: ReadonlyArray<Doing<unknown>>): Doing<void> =>
  async (name, scene) => {
    for (const doing of doings) await doing(name, scene);
  };
const exits =
  (nth: 0 | 1): Doing<void> =>
  async (name, scene) => {
    const { id, agent } = (await kernelsOf(name, scene))[nth]!;
    agent.exit(id, 1);
  };
const jobEnds =
  (result: 'success' | 'failure'): Doing<void> =>
  async (name, scene) => {
    const { id, agent } = await mainKernel(name, scene);
    agent.finishBatch(id, result);
  };

const small = { resources: { cpu: '3' } } as const;
const ofTwo = { clusterMode: 'multi-node', clusterSize: 2, ...small } as const;
const ofThree = { clusterMode: 'multi-node', clusterSize: 3, resources: { cpu: '2' } } as const;
const aJob = { type: 'batch', startupCommand: 'make' } as const;

const running: Leg = { act: create(), reached: runs };
const runningCluster: Leg = { act: create(ofThree), reached: runs };
const destroyed: Leg = { act: asUser('destroy'), reached: isIn('TERMINATED', 'user-requested') };
/** Both agents are full of them. */
const others = ['a', 'b'];
const full: readonly Leg[] = others.map((nth) => ({
  act: ofOther(nth, create(small)),
  reached: ofOther(nth, isIn('RUNNING')),
}));
const oneOfOthers =
  (condition: Doing<boolean>): Doing<boolean> =>
  async (name, scene) => {
    const found = await Promise.all(others.map((nth) => ofOther(nth, condition)(name, scene)));
    return found.filter(Boolean).length === 1;
  };
const urgent = create({ ...small, jobPriority: 5 });
/** Those that are to leave do not end. */
const reserved: Leg = {
  act: inTurn(behaving({ destroyBehaviour: 'ignore' }), urgent),
  reached: all(isIn('RESERVED'), oneOfOthers(isIn('TERMINATING', 'preempted'))),
};
const start = ['insert into sessions', 'PENDING → PREPARING', 'createKernel', 'PREPARING → RUNNING'];
const startOfCluster = [
  ...start.slice(0, -1),
  ...['insert into session_key_pairs', 'insert into cluster_networks', 'ensureClusterNetwork', 'CREATING → RUNNING'],
];
const end = ['RUNNING → TERMINATING', 'destroyKernel', 'TERMINATING → TERMINATED'];

const poolSize =
  (size: number): Doing<unknown> =>
  (_name, { world }) =>
    inRequest(() => world.manager.services.api.admin.warmPool.modify({ name: pool.name, size }, world.ctx()));
const readySlots =
  (count: number): Doing<boolean> =>
  async (_name, { world, agents }) => {
    const [known] = await world.manager.services.api.admin.warmPool.list(world.ctx());
    return known?.ready === count && agents[0]!.warmSlots.size === count;
  };

const imageOf = async (name: string, scene: Scene): Promise<string> =>
  customizedImageName((await find(name, scene))!.user, name);

export const ways: readonly Way[] = [
  { what: 'creation', legs: [running], by: start },
  { what: 'creation of a cluster', legs: [runningCluster], by: startOfCluster },
  {
    what: 'a job to its end',
    legs: [
      { act: create(aJob), reached: runs },
      {
        act: jobEnds('success'),
        reached: isSo((found) => found.result === 'success' && found.status === 'TERMINATED'),
      },
    ],
    by: [...start, ...end],
  },
  {
    what: 'a job of a cluster to its end',
    legs: [
      {
        act: create({ ...aJob, ...ofTwo }),
        reached: all(runs, async (name, scene) => {
          const { id, agent } = await mainKernel(name, scene);
          return agent.begun.includes(id);
        }),
      },
      {
        act: jobEnds('success'),
        reached: isSo((found) => found.result === 'success' && found.status === 'TERMINATED'),
      },
    ],
    by: [...startOfCluster, 'beginBatch', ...end],
  },
  {
    what: 'a job that fails, one waiting for it',
    legs: [
      { act: create(aJob), reached: runs },
      {
        act: (name, scene) => ofOther('after', create({ dependencies: [name] }))(name, scene),
        reached: ofOther('after', isIn('PENDING', 'dependency-unfinished')),
      },
      { act: jobEnds('failure'), reached: ofOther('after', isIn('CANCELLED', 'dependency-failed')) },
    ],
    by: [...start, ...end, 'PENDING → CANCELLED'],
  },
  { what: 'destruction', before: [running], legs: [destroyed], by: end },
  {
    what: 'destruction of a cluster',
    before: [runningCluster],
    legs: [
      destroyed,
      {
        act: async () => {},
        reached: async (_name, { agents }) => agents.every(({ networks }) => networks.size === 0),
      },
    ],
    by: [...end, 'TERMINATING → TERMINATING', 'removeClusterNetwork'],
  },
  {
    what: 'forced destruction',
    before: [running],
    legs: [{ ...destroyed, act: asUser('destroy', { forced: true }) }],
    by: end,
  },
  {
    what: 'restart',
    before: [running],
    legs: [{ act: asUser('restart'), reached: all(passed('RESTARTING'), runs) }],
    by: ['RUNNING → RESTARTING', 'destroyKernel', 'RESTARTING → PENDING', ...start.slice(1)],
  },
  {
    what: 'restart of a cluster',
    before: [runningCluster],
    legs: [{ act: asUser('restart'), reached: all(passed('RESTARTING'), runs) }],
    by: ['RUNNING → RESTARTING', 'destroyKernel', 'RESTARTING → PENDING', 'createKernel', 'CREATING → RUNNING'],
  },
  {
    what: 'a pause and its end',
    before: [running],
    legs: (['pause', 'resume'] as const).map((action) => ({
      act: asUser(action),
      async reached(name, scene) {
        const [kernel, found] = await Promise.all([mainKernel(name, scene), find(name, scene)]);
        return [kernel.agent.paused.has(kernel.id), found?.isPaused].every((paused) => paused === (action === 'pause'));
      },
    })),
    by: ['pauseKernel', 'resumeKernel'],
  },
  {
    what: 'an image made of it',
    before: [running],
    legs: [
      {
        async act(name, scene) {
          const { world } = scene;
          const { id, agent } = await mainKernel(name, scene);
          if (agent.commits.has(id)) return;
          await inRequest(() => world.manager.services.api.session.commit({ session: name, image: name }, world.ctx()));
        },
        reached: async (name, scene) => {
          const { id, agent } = await mainKernel(name, scene);
          return agent.commits.has(id);
        },
      },
      {
        async act(name, scene) {
          const [{ id, agent }, image] = await Promise.all([mainKernel(name, scene), imageOf(name, scene)]);
          const { images } = agent.registration;
          agent.commits.set(id, { state: 'done', image, failure: null });
          await agent.offer([...images, { ...images[0]!, name: image, aliases: [] }]);
        },
        async reached(name, scene) {
          const { world } = scene;
          const image = await imageOf(name, scene);
          return (await world.manager.services.api.image.list(world.ctx())).some((known) => known.name === image);
        },
      },
    ],
    by: ['commitKernel'],
  },
  {
    what: 'making room for another session',
    before: full,
    legs: [{ act: urgent, reached: all(isIn('RUNNING'), oneOfOthers(isIn('TERMINATED', 'preempted'))) }],
    by: ['PENDING → RESERVED', 'PREEMPTED → TERMINATING', ...end.slice(1), 'RESERVED → PREPARING', ...start.slice(2)],
  },
  {
    what: 'making room by waiting again',
    group: { preemption: { enabled: true, mode: 'reschedule' } },
    before: full,
    legs: [
      { act: urgent, reached: all(isIn('RUNNING'), oneOfOthers(isIn('PENDING'))) },
      {
        act: asUser('destroy'),
        reached: all(isIn('TERMINATED'), ...others.map((nth) => ofOther(nth, isIn('RUNNING')))),
      },
    ],
    by: [
      'PENDING → RESERVED',
      'PREEMPTED → RESCHEDULING',
      'RESCHEDULING → PENDING',
      'RESERVED → PREPARING',
      ...start.slice(1),
    ],
  },
  {
    what: 'a place kept until others have left',
    before: full,
    legs: [
      reserved,
      {
        act: behaving({ destroyBehaviour: 'end' }),
        reached: all(isIn('RUNNING'), oneOfOthers(isIn('TERMINATED', 'preempted'))),
      },
    ],
    by: ['PENDING → RESERVED', 'PREEMPTED → TERMINATING', ...end.slice(1), 'RESERVED → PREPARING', ...start.slice(2)],
  },
  {
    what: 'a place given back by its user',
    before: full,
    legs: [reserved, { act: asUser('destroy'), reached: isIn('CANCELLED', 'user-requested') }],
    by: ['PENDING → RESERVED', 'PREEMPTED → TERMINATING', 'destroyKernel', 'RESERVED → CANCELLED'],
  },
  {
    what: 'a place that others leave too late',
    before: full,
    legs: [
      reserved,
      {
        act: async (name, scene) => scene.world.expireDeadline((await find(name, scene))!.id),
        reached: passed('PENDING', 'reservation-timeout'),
      },
      { act: behaving({ destroyBehaviour: 'end' }), reached: isIn('RUNNING') },
    ],
    by: ['PENDING → RESERVED', 'RESERVED → PENDING', ...end.slice(1), ...start.slice(2)],
    passes: ['reservation-timeout'],
  },
  {
    what: 'a wait that lowers its priority',
    group: { attemptInterval: 0, attemptsBeforeGivingUp: 2 },
    before: full,
    legs: [
      {
        act: create({ ...small, priority: 10 }),
        reached: isSo((found) => found.status === 'PENDING' && found.priority < 10),
      },
      { act: ofOther('a', asUser('destroy')), reached: isIn('RUNNING') },
    ],
    by: ['update sessions', 'PENDING → DEPRIORITIZING', 'DEPRIORITIZING → PENDING', ...start],
  },
  {
    what: 'a wait that is too long',
    before: full,
    legs: [
      { act: create(small), reached: isIn('PENDING', 'insufficient-resources') },
      {
        act: (name, { world }) =>
          world.database.db.execute(
            sql`update sessions set queued_at = now() - ${2 * longestWaitSec} * interval '1 second' where name = ${name}`,
          ),
        reached: isIn('CANCELLED', 'pending-timeout'),
      },
    ],
    by: ['insert into sessions', 'update sessions', 'PENDING → CANCELLED'],
    passes: ['pending-timeout'],
  },
  {
    what: 'a life that is too long',
    before: [running],
    legs: [
      {
        act: (name, { world }) =>
          world.database.db.execute(
            sql`update sessions set created_at = now() - ${2 * longestLifeSec} * interval '1 second' where name = ${name}`,
          ),
        reached: isIn('TERMINATED', 'idle-session-lifetime'),
      },
    ],
    by: end,
  },
  {
    what: 'a warm slot that becomes a kernel',
    legs: [
      { act: poolSize(1), reached: readySlots(1) },
      {
        act: create({ resources: pool.resources }),
        reached: all(runs, readySlots(1), async (name, scene) => {
          const { id, agent } = await mainKernel(name, scene);
          return agent.claims.includes(id);
        }),
      },
      { act: poolSize(0), reached: readySlots(0) },
    ],
    by: ['insert into warm_slots', 'keepWarmSlots', ...start, 'delete from warm_slots'],
  },
  {
    what: 'a refused start',
    legs: [
      { act: inTurn(behaving({ behaviour: 'refuse' }), create()), reached: isIn('PENDING', 'agent-refused') },
      { act: behaving({ behaviour: 'start' }), reached: runs },
    ],
    by: ['PREPARING → PENDING', ...start],
  },
  {
    what: 'a failed start',
    legs: [{ act: inTurn(behaving({ behaviour: 'fail' }), create()), reached: isIn('ERROR', 'start-failed') }],
    by: [...start.slice(0, -1), 'PREPARING → ERROR'],
  },
  {
    what: 'a start that fetches its image',
    legs: [
      { act: inTurn(behaving({ behaviour: 'stall' }), create()), reached: standsStill },
      {
        async act(name, scene) {
          const { id, agent } = await mainKernel(name, scene);
          agent.tell(id, { type: 'kernel-pulling' });
        },
        reached: isIn('PULLING'),
      },
      {
        async act(name, scene) {
          const { id, agent } = await mainKernel(name, scene);
          agent.finishStart(id);
        },
        reached: runs,
      },
    ],
    by: [...start.slice(0, -1), 'PREPARING → PULLING', 'PULLING → CREATING', 'CREATING → RUNNING'],
  },
  {
    what: 'a cluster that outlives a kernel',
    before: [{ act: create({ ...ofTwo, failurePolicy: 'tolerant' }), reached: runs }],
    legs: [
      { act: exits(1), reached: isIn('RUNNING_DEGRADED', 'degraded') },
      { act: exits(0), reached: isIn('TERMINATED') },
    ],
    by: ['RUNNING → RUNNING_DEGRADED', 'RUNNING_DEGRADED → TERMINATED'],
  },
  {
    what: 'a cluster that ends with a kernel',
    before: [{ act: create(ofTwo), reached: runs }],
    legs: [{ act: exits(1), reached: isIn('TERMINATED', 'abnormal-termination') }],
    by: end,
  },
  {
    what: 'an agent lost with a start',
    legs: [
      { act: inTurn(behaving({ behaviour: 'stall' }), create()), reached: isIn('PREPARING') },
      {
        async act(name, scene) {
          const { agent } = await mainKernel(name, scene);
          await behaving({ behaviour: 'start' })(name, scene);
          await agent.stop({ loseKernels: true });
          await scene.world.forgetHeartbeats(agent.id);
        },
        reached: runs,
      },
    ],
    by: ['update agents', 'PREPARING → PENDING', ...start],
  },
  {
    what: 'an agent lost with a session',
    before: [running],
    legs: [
      {
        async act(name, scene) {
          const { agent } = await mainKernel(name, scene);
          await agent.stop();
          await scene.world.forgetHeartbeats(agent.id);
        },
        async reached(name, scene) {
          const { agent } = await mainKernel(name, scene);
          const lost = sql`select 1 from agents where status = 'LOST' and id = ${agent.id}`;
          return (await scene.world.database.db.execute(lost)).length > 0;
        },
      },
      {
        act: async (name, scene) => scene.world.expireGrace((await mainKernel(name, scene)).agent.id),
        reached: isIn('ERROR', 'agent-lost'),
      },
    ],
    by: ['update agents', 'RUNNING → ERROR'],
  },
];
