import { isTerminal, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { CreateBehaviour, FakeAgent } from './fake-agent.ts';
import type { World } from './world.ts';

/** What users, agents and managers do, in any order: commands for fast-check on a world with agents. */

export interface Model {
  /** Most sessions that may hold resources at a time. */
  readonly mostSessions: number;
}

export interface Real {
  readonly world: World;
  readonly agents: readonly FakeAgent[];
}

type Command = fc.AsyncCommand<Model, Real>;

export const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
export const sessionsOf = (world: World) =>
  world.manager.services.api.session.list({ all: true, limit: 1000 }, world.ctx());
export const liveSessions = async (world: World) =>
  (await sessionsOf(world)).filter((session) => !isTerminal(session.status));
/** What somebody tries who may be too late. */
export const tolerant = (work: Promise<unknown>): Promise<unknown> => work.catch(() => {});

const pick = <T>(items: readonly T[], at: number): T | undefined => items[at % Math.max(1, items.length)];

/** What holds at every moment. */
async function checkInvariants({ mostSessions }: Model, { world, agents }: Real): Promise<void> {
  // A slot that is made in the moment of a placement is in its way until the next look.
  const violations = await world.manager.services.verifyLedger();
  expect(violations.filter(({ kind }) => kind !== 'warm-slots-in-the-way')).toEqual([]);
  const twice = await world.database.db.execute(sql`
    select name from sessions where status not in ('TERMINATED', 'ERROR', 'CANCELLED')
    group by access_key, name having count(*) > 1`);
  expect([...twice], 'names of live sessions').toEqual([]);
  // What is announced for a session is another one's still, which counts no more while it has to go.
  const holding = await world.database.db.execute(sql`
    select distinct k.session_id from resource_allocations a join kernels k on k.id = a.kernel_id
    join sessions s on s.id = k.session_id
    where a.free_at is null and not a.prereserved and s.status not in ('PREEMPTED', 'RESCHEDULING')`);
  expect(holding.length, 'sessions that hold resources').toBeLessThanOrEqual(mostSessions);
  const starts = agents.flatMap((agent) => agent.starts);
  expect(new Set(starts).size, 'each kernel is started once').toBe(starts.length);
  const claims = agents.flatMap((agent) => agent.claims);
  expect(new Set(claims).size, 'each warm slot is handed over once').toBe(claims.length);
}

function command(what: string, run: (real: Real) => Promise<unknown>): Command {
  return {
    check: () => true,
    async run(model, real) {
      await run(real);
      await checkInvariants(model, real);
    },
    toString: () => what,
  };
}

type SessionAction = 'destroy' | 'force' | 'restart' | 'rename' | 'take another name' | 'pause' | 'resume';

async function act({ world }: Real, action: SessionAction, at: number): Promise<unknown> {
  const live = await liveSessions(world);
  const session = pick(live, at)?.id;
  if (session === undefined) return;
  const { destroy, restart, rename, pause, resume } = world.manager.services.api.session;
  const name = action === 'rename' ? `name-${at % 3}` : (pick(live, at + 1)?.name ?? 'other');
  const doing: Record<SessionAction, () => Promise<unknown>> = {
    destroy: () => destroy({ session, forced: false }, world.ctx()),
    force: () => destroy({ session, forced: true }, world.ctx()),
    restart: () => restart({ session }, world.ctx()),
    rename: () => rename({ session, name }, world.ctx()),
    'take another name': () => rename({ session, name }, world.ctx()),
    pause: () => pause({ session }, world.ctx()),
    resume: () => resume({ session }, world.ctx()),
  };
  await tolerant(inRequest(doing[action]));
}

export async function stopAgent(agent: FakeAgent, loseKernels: boolean): Promise<void> {
  if (agent.isUp) await agent.stop({ loseKernels });
}

export async function startAgent(agent: FakeAgent): Promise<void> {
  if (!agent.isUp) await agent.start();
}

type AgentAction = 'lose' | 'lose with kernels' | 'return' | 'beat' | 'old beat' | 'repeat events' | 'exit';

async function actOfAgent(real: Real, action: AgentAction, agent: FakeAgent): Promise<unknown> {
  const lose = async (loseKernels: boolean): Promise<void> => {
    await stopAgent(agent, loseKernels);
    await real.world.forgetHeartbeats(agent.id);
  };
  const doing: Record<AgentAction, () => unknown> = {
    lose: () => lose(false),
    'lose with kernels': () => lose(true),
    return: () => startAgent(agent),
    beat: () => tolerant(Promise.resolve().then(() => agent.heartbeat())),
    'old beat': () => tolerant(agent.repeatHeartbeat()),
    'repeat events': () => tolerant(agent.repeatEvents()),
    exit: () => agent.exit([...agent.kernels.keys()][0] ?? ''),
  };
  return await doing[action]();
}

const index = fc.nat(30);
const behaviours: CreateBehaviour[] = ['start', 'stall', 'refuse', 'lose-answer', 'lose-order', 'fail'];
const actions = fc.constantFrom<SessionAction>(
  ...(['destroy', 'destroy', 'force', 'restart', 'rename', 'take another name', 'pause', 'resume'] as const),
);
const agentActions = fc.constantFrom<AgentAction>(
  ...(['lose', 'lose with kernels', 'return', 'return', 'beat', 'old beat', 'repeat events', 'exit'] as const),
);
const agentOf = ({ agents }: Real, at: number): FakeAgent => pick(agents, at)!;

const creation = fc
  .record({
    cpu: fc.constantFrom(1, 2, 3, 4),
    size: fc.constantFrom(1, 1, 2, 3),
    jobPriority: fc.constantFrom(0, 0, 5),
    isPreemptible: fc.constantFrom(true, true, true, false),
    /** Often one that is taken. */
    name: fc.option(fc.constantFrom('name-0', 'name-1', 'name-2'), { nil: undefined }),
    isJob: fc.boolean(),
    /** Waits for a job that lives. */
    after: fc.option(index, { nil: undefined }),
  })
  .map(({ cpu, size, name, isJob, after, ...priorities }) => {
    const rank = `${priorities.jobPriority}${priorities.isPreemptible ? '' : '!'}`;
    return command(
      `create ${size} of ${cpu} ${rank} ${name ?? ''} ${isJob ? 'job' : ''} ${after ?? ''}`,
      async ({ world }) => {
        const jobs = after === undefined ? [] : (await liveSessions(world)).filter(({ type }) => type === 'batch');
        const before = pick(jobs, after ?? 0);
        await tolerant(
          world.create({
            ...(name === undefined ? {} : { name }),
            ...(isJob ? { type: 'batch', startupCommand: 'make' } : {}),
            ...(before ? { dependencies: [before.id] } : {}),
            ...priorities,
            resources: { cpu },
            clusterSize: size,
            clusterMode: size > 1 ? 'multi-node' : 'single-node',
          }),
        );
      },
    );
  });

/** Where there is no room, others have to go for it. */
export const urgent = command('create urgent', ({ world }) => world.create({ resources: { cpu: 3 }, jobPriority: 9 }));

const byUsers = [
  { weight: 10, arbitrary: creation },
  {
    weight: 6,
    arbitrary: fc
      .tuple(actions, index)
      .map(([action, at]) => command(`${action} ${at}`, (real) => act(real, action, at))),
  },
  {
    weight: 4,
    arbitrary: fc
      .record({
        users: fc.array(fc.tuple(actions, fc.nat(2)), { minLength: 1, maxLength: 3 }),
        // Each does one thing at a time.
        agents: fc.uniqueArray(fc.tuple(fc.nat(1), agentActions), { selector: ([at]) => at, maxLength: 2 }),
      })
      .map(({ users, agents }) =>
        command(`together: ${[...users, ...agents].map(([at, what]) => `${at} ${what}`).join(', ')}`, (real) =>
          Promise.all([
            ...users.map(([action, at]) => act(real, action, at)),
            ...agents.map(([at, action]) => actOfAgent(real, action, agentOf(real, at))),
          ]),
        ),
      ),
  },
];

const byAgents = [
  {
    weight: 4,
    arbitrary: fc.tuple(index, fc.constantFrom(...behaviours)).map(([at, behaviour]) =>
      command(`${at} ${behaviour}`, async (real) => {
        agentOf(real, at).behaviour = behaviour;
      }),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(index, index, fc.constantFrom('exit', 'success', 'failure')).map(([at, kernel, how]) =>
      command(`${how} ${at} ${kernel}`, async (real) => {
        const agent = agentOf(real, at);
        const id = pick([...agent.kernels.keys()], kernel);
        if (id === undefined) return;
        if (how === 'exit' || agent.kernels.get(id)?.spec.batch === undefined) agent.exit(id, kernel);
        else agent.finishBatch(id, how === 'success' ? 'success' : 'failure');
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(index, fc.boolean())
      .map(([at, lose]) => command(`stop ${at} ${lose}`, (real) => stopAgent(agentOf(real, at), lose))),
  },
  { weight: 3, arbitrary: index.map((at) => command(`start ${at}`, (real) => startAgent(agentOf(real, at)))) },
  {
    weight: 2,
    arbitrary: fc.tuple(index, fc.boolean()).map(([at, hold]) =>
      command(`hold events ${at} ${hold}`, async (real) => {
        agentOf(real, at).holdEvents = hold;
        await agentOf(real, at).flush();
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: index.map((at) => command(`repeat events ${at}`, (real) => tolerant(agentOf(real, at).repeatEvents()))),
  },
  {
    weight: 2,
    arbitrary: index.map((at) =>
      command(`old heartbeat ${at}`, (real) => tolerant(agentOf(real, at).repeatHeartbeat())),
    ),
  },
  {
    weight: 1,
    arbitrary: index.map((at) =>
      command(`ignore ends ${at}`, async (real) => {
        agentOf(real, at).destroyBehaviour = 'ignore';
      }),
    ),
  },
];

/** The name of the one pool of warm slots. */
export const pool = 'pool';

const byPools = [
  {
    weight: 2,
    arbitrary: fc.nat(3).map((size) =>
      command(`pool of ${size}`, async ({ world }) => {
        await tolerant(
          inRequest(() => world.manager.services.api.admin.warmPool.modify({ name: pool, size }, world.ctx())),
        );
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(index, fc.constantFrom<FakeAgent['warmBehaviour']>('ready', 'ready', 'stall', 'fail', 'ignore'))
      .map(([at, behaviour]) =>
        command(`slots ${at} ${behaviour}`, async (real) => {
          agentOf(real, at).warmBehaviour = behaviour;
        }),
      ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(index, index, fc.boolean()).map(([at, slot, tell]) =>
      command(`lose slot ${at} ${slot} ${tell}`, async (real) => {
        const agent = agentOf(real, at);
        await tolerant(agent.loseSlot(pick([...agent.warmSlots.keys()], slot) ?? '', tell));
      }),
    ),
  },
];

/** What agents that start no slots have of a pool that goes. */
export const poolThatGoes = command('a pool goes while agents start none of its slots', async ({ world, agents }) => {
  const resize = (size: number) =>
    inRequest(() => world.manager.services.api.admin.warmPool.modify({ name: pool, size }, world.ctx()));
  await resize(2);
  await waitFor(() => agents.some(({ warmSlots }) => warmSlots.size > 0), { what: 'a warm slot' });
  for (const agent of agents) agent.warmBehaviour = 'ignore';
  const told = agents.map(({ wishes }) => wishes.length);
  await resize(0);
  await waitFor(() => agents.every(({ wishes }, nth) => wishes.slice(told[nth]).some((slots) => slots.length === 0)), {
    what: 'all agents to be told',
  });
  await world.manager.services.settle();
});

const byTime = [
  {
    weight: 1,
    arbitrary: index.map((at) =>
      command(`lose ${at}`, async (real) => {
        await stopAgent(agentOf(real, at), false);
        await real.world.forgetHeartbeats(agentOf(real, at).id);
      }),
    ),
  },
  {
    weight: 1,
    arbitrary: index.map((at) => command(`grace over ${at}`, (real) => real.world.expireGrace(agentOf(real, at).id))),
  },
  {
    weight: 1,
    arbitrary: index.map((at) =>
      command(`deadline ${at}`, async ({ world }) => {
        const session = pick(await liveSessions(world), at);
        if (session) await world.expireDeadline(session.id);
      }),
    ),
  },
];

export const preemptionModes = fc.constantFrom('terminate', 'reschedule', 'reschedule', 'off');

export async function setPreemption(world: World, mode: string): Promise<void> {
  const preemption = mode === 'off' ? { enabled: false } : { enabled: true, mode };
  const change = { name: 'default', options: { preemption } };
  await world.manager.services.api.admin.resourceGroup.modify(change as never, world.ctx());
}

const byAdministrators = [
  {
    weight: 1,
    arbitrary: preemptionModes.map((mode) =>
      command(`preemption ${mode}`, ({ world }) => inRequest(() => setPreemption(world, mode))),
    ),
  },
];

const byManagers = [
  { weight: 1, arbitrary: fc.constant(command('restart manager', ({ world }) => world.restartManager())) },
  { weight: 1, arbitrary: fc.constant(command('elect', ({ world }) => world.endLeases())) },
  { weight: 2, arbitrary: fc.constant(command('settle', ({ world }) => world.manager.services.settle())) },
];

export const sessionCommands: fc.Arbitrary<Iterable<Command>> = fc.commands(
  [fc.oneof(...byUsers, ...byAgents, ...byPools, ...byTime, ...byAdministrators, ...byManagers)],
  { maxCommands: 30, size: 'max' },
);
