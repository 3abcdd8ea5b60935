import { hasCode, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CrashPoints } from './crash-points.ts';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

/**
 * A manager is killed after each step of each way of a session. Another one on the same database, with the same agents,
 * brings the session where it was to go, with nothing lost, left behind or started twice. Users do again what was not
 * answered. `./scripts/test.sh --soak` tries every step, otherwise some of the long ways are tried with a stride.
 */

let world: World;
let agents: FakeAgent[];
const crashes = new CrashPoints();

beforeAll(async () => {
  world = await createWorld({ crashPoints: crashes, config: { agentLostAfterMs: 1_000 } });
  agents = [await world.addAgent('i-one'), await world.addAgent('i-two')];
  const { modify } = world.manager.services.api.admin.resourceGroup;
  const makingRoom = { name: 'default', options: { preemption: { enabled: true } } };
  await inRequest(() => modify(makingRoom as never, world.ctx()));
});
afterAll(() => world.close());

/** One part of a way: somebody does something, and then it is so. */
interface Leg {
  readonly act: (name: string) => Promise<unknown>;
  readonly reached: (name: string) => Promise<boolean>;
}

interface Way {
  readonly what: string;
  /** Before steps are counted. */
  readonly before?: readonly Leg[];
  readonly legs: readonly Leg[];
  /** How many steps it has at least: a way with fewer is not the one that is meant. */
  readonly atLeast: number;
  /** Otherwise one step after the other. */
  readonly stride?: number;
}

const api = () => world.manager.services.api.session;
const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);

interface Found {
  readonly id: string;
  readonly status: string;
  readonly reason: string;
  readonly result: string;
  readonly kernels: Array<{ id: string; agent: string }>;
}

/** Past the manager, which may be dead. */
async function find(name: string): Promise<Found | undefined> {
  const [row] = await world.database.db.execute<Found & Record<string, unknown>>(sql`
    select s.id, s.status, s.status_reason as reason, s.result,
      (select jsonb_agg(jsonb_build_object('id', k.id, 'agent', k.agent_id)) from kernels k where k.session_id = s.id) as kernels
    from sessions s where s.name = ${name}`);
  return row;
}

const isIn = (status: string, reason?: string) => async (name: string) => {
  const found = await find(name);
  return found?.status === status && (reason === undefined || found.reason === reason);
};
const kernelsAtAgents = (): string[] => agents.flatMap((agent) => [...agent.kernels.keys()]);
/** It runs, and agents have its kernels and no others. */
const runs = async (name: string): Promise<boolean> => {
  const found = await find(name);
  const kernels = found?.kernels.map(({ id }) => id) ?? [];
  return found?.status === 'RUNNING' && kernels.sort().join() === kernelsAtAgents().sort().join();
};
const atAgent = async (name: string): Promise<FakeAgent> => {
  const found = await find(name);
  return agents.find(({ id }) => id === found?.kernels[0]?.agent) ?? agents[0]!;
};

const create = (input: Parameters<World['create']>[0] = {}) => {
  return (name: string) => world.create({ name, reuseIfExists: true, ...input });
};
const destroy = (forced: boolean) => async (name: string) => {
  try {
    await inRequest(() => api().destroy({ session: name, forced }, world.ctx()));
  } catch (error) {
    // What was done before its answer was lost.
    if (!hasCode(error, 'session-not-found')) throw error;
  }
};
const behaving = (behaviour: FakeAgent['behaviour']) => {
  for (const agent of agents) agent.behaviour = behaviour;
};

const running: Leg = { act: create(), reached: runs };
const ofThree = { clusterMode: 'multi-node', clusterSize: 3, resources: { cpu: '2' } } as const;
const runningCluster: Leg = { act: create(ofThree), reached: runs };
const job: Leg = { act: create({ type: 'batch', startupCommand: 'make' }), reached: runs };
const jobEnds = (result: 'success' | 'failure') => async (name: string) => {
  for (const { id } of (await find(name))?.kernels ?? []) (await atAgent(name)).finishBatch(id, result);
};
let restarted = '';

const ways: readonly Way[] = [
  { what: 'creation', legs: [running], atLeast: 5 },
  { what: 'creation of a cluster', legs: [runningCluster], atLeast: 9, stride: 3 },
  {
    what: 'a job to its end',
    legs: [
      job,
      {
        act: jobEnds('success'),
        reached: async (name) => (await find(name))?.result === 'success' && (await isIn('TERMINATED')(name)),
      },
    ],
    atLeast: 7,
  },
  {
    what: 'a job that fails, with one that waits for it',
    legs: [
      job,
      {
        act: (name) => create({ dependencies: [name] })(`${name}-after`),
        reached: (name) => isIn('PENDING', 'dependency-unfinished')(`${name}-after`),
      },
      { act: jobEnds('failure'), reached: (name) => isIn('CANCELLED', 'dependency-failed')(`${name}-after`) },
    ],
    atLeast: 8,
  },
  {
    what: 'destruction',
    before: [running],
    legs: [{ act: destroy(false), reached: isIn('TERMINATED', 'user-requested') }],
    atLeast: 3,
  },
  {
    what: 'destruction of a cluster',
    before: [runningCluster],
    legs: [{ act: destroy(false), reached: isIn('TERMINATED', 'user-requested') }],
    atLeast: 7,
    stride: 3,
  },
  {
    what: 'forced destruction',
    before: [running],
    legs: [{ act: destroy(true), reached: isIn('TERMINATED', 'user-requested') }],
    atLeast: 1,
  },
  {
    what: 'restart',
    before: [running],
    legs: [
      {
        async act(name) {
          restarted ||= (await find(name))?.kernels[0]?.id ?? '';
          await inRequest(() => api().restart({ session: name }, world.ctx()));
        },
        reached: async (name) => (await runs(name)) && (await find(name))?.kernels[0]?.id !== restarted,
      },
    ],
    atLeast: 8,
  },
  {
    what: 'making room for another session',
    before: ['a', 'b'].map((nth) => ({
      act: (name) => create({ resources: { cpu: '3' }, jobPriority: 0 })(`${name}-${nth}`),
      reached: (name) => isIn('RUNNING')(`${name}-${nth}`),
    })),
    legs: [
      {
        act: create({ resources: { cpu: '3' }, jobPriority: 5 }),
        async reached(name) {
          const victims = await Promise.all(['a', 'b'].map((nth) => isIn('TERMINATED', 'preempted')(`${name}-${nth}`)));
          return victims.filter(Boolean).length === 1 && (await isIn('RUNNING')(name));
        },
      },
    ],
    atLeast: 9,
    stride: 2,
  },
  {
    what: 'a refused start',
    legs: [
      {
        act: (name) => {
          behaving('refuse');
          return create()(name);
        },
        reached: isIn('PENDING', 'agent-refused'),
      },
      { act: async () => behaving('start'), reached: runs },
    ],
    atLeast: 7,
  },
  {
    what: 'an agent lost with a start',
    legs: [
      {
        act: (name) => {
          behaving('stall');
          return create()(name);
        },
        reached: isIn('PREPARING'),
      },
      {
        async act(name) {
          const agent = await atAgent(name);
          behaving('start');
          await agent.stop({ loseKernels: true });
          await world.forgetHeartbeats(agent.id);
        },
        reached: runs,
      },
    ],
    atLeast: 6,
    stride: 2,
  },
  {
    what: 'an agent lost with a session',
    before: [running],
    legs: [
      {
        async act(name) {
          const agent = await atAgent(name);
          await agent.stop();
          await world.forgetHeartbeats(agent.id);
        },
        async reached(name) {
          const { id } = await atAgent(name);
          return (
            (await world.database.db.execute(sql`select 1 from agents where status = 'LOST' and id = ${id}`)).length > 0
          );
        },
      },
      {
        act: async (name) => world.expireGrace((await atAgent(name)).id),
        reached: isIn('ERROR', 'agent-lost'),
      },
    ],
    atLeast: 2,
  },
];

/** The next manager, if this one was killed. */
async function bury(): Promise<void> {
  if (crashes.killed) await world.restartManager();
}

async function walk(leg: Leg, name: string): Promise<void> {
  let acted = false;
  await waitFor(
    async () => {
      await bury();
      if (!acted) {
        await leg.act(name);
        acted = true;
      }
      return await leg.reached(name);
    },
    { timeoutMs: 25_000, what: `${name} is where it was to go` },
  );
}

/** Everybody is well, and everything ends. */
async function cleanUp(): Promise<void> {
  await bury();
  crashes.stopCounting();
  restarted = '';
  behaving('start');
  for (const agent of agents) if (!agent.isUp) await agent.start();
  expect(await world.manager.services.verifyLedger()).toEqual([]);
  expect(await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000))).toBe(0);
  await waitFor(() => kernelsAtAgents().length === 0, { what: 'agents without kernels' });
  expect(await world.manager.services.verifyLedger()).toEqual([]);
  const { used } = await world.manager.services.api.cluster.status(world.ctx());
  expect(Object.values(used).filter((amount) => amount !== '0')).toEqual([]);
  const late = await world.database.db.execute(sql`select reason from session_history where reason like '%-timeout'`);
  expect([...late], 'nothing waited for a deadline').toEqual([]);
  const starts = agents.flatMap((agent) => agent.starts);
  expect(new Set(starts).size, 'each kernel is started once').toBe(starts.length);
}

describe('a manager that is killed after each step of', () => {
  it.for(ways)(
    '$what',
    { timeout: 300_000 },
    async ({ what, before = [], legs, atLeast, stride = 1 }, { annotate }) => {
      let killed = true;
      for (let step = 1; killed; step += process.env.SOAK ? 1 : stride) {
        const name = `s-${newId().slice(-12)}`;
        for (const leg of before) await walk(leg, name);
        crashes.killAfter(step);
        const steps = (): string => `${what}, killed after step ${step}: ${crashes.steps.join('; ')}`;
        try {
          for (const leg of legs) await walk(leg, name);
          // What was done last may be in the database before its manager knows.
          if (!crashes.killed) await world.manager.services.settle();
          killed = crashes.steps.length === step;
          await annotate(steps());
          await cleanUp();
        } catch (error) {
          throw new Error(steps(), { cause: error });
        }
        if (!killed) expect(step).toBeGreaterThan(atLeast);
      }
    },
  );
});
