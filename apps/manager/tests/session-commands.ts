import { EmbeddedLeases } from '@backend.ai/coordination';
import { isTerminal, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
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
  const holding = await world.database.db.execute(sql`
    select distinct k.session_id from resource_allocations a join kernels k on k.id = a.kernel_id where a.free_at is null`);
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

const index = fc.nat(30);
const behaviours: CreateBehaviour[] = ['start', 'stall', 'refuse', 'lose-answer', 'lose-order', 'fail'];
const actions = fc.constantFrom<SessionAction>(
  ...(['destroy', 'destroy', 'force', 'restart', 'rename', 'take another name', 'pause', 'resume'] as const),
);
const agentOf = ({ agents }: Real, at: number): FakeAgent => pick(agents, at)!;

const creation = fc
  .record({
    cpu: fc.constantFrom(1, 1, 2, 3),
    size: fc.constantFrom(1, 1, 2, 3),
    /** Often one that is taken. */
    name: fc.option(fc.constantFrom('name-0', 'name-1', 'name-2'), { nil: undefined }),
    isJob: fc.boolean(),
    /** Waits for a job that lives. */
    after: fc.option(index, { nil: undefined }),
  })
  .map(({ cpu, size, name, isJob, after }) =>
    command(`create ${size} of ${cpu} ${name ?? ''} ${isJob ? 'job' : ''} ${after ?? ''}`, async ({ world }) => {
      const jobs = after === undefined ? [] : (await liveSessions(world)).filter(({ type }) => type === 'batch');
      const before = pick(jobs, after ?? 0);
      await tolerant(
        world.create({
          ...(name === undefined ? {} : { name }),
          ...(isJob ? { type: 'batch', startupCommand: 'make' } : {}),
          ...(before ? { dependencies: [before.id] } : {}),
          resources: { cpu },
          clusterSize: size,
          clusterMode: size > 1 ? 'multi-node' : 'single-node',
        }),
      );
    }),
  );

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
      .array(fc.tuple(actions, fc.nat(2)), { minLength: 2, maxLength: 4 })
      .map((many) =>
        command(`together: ${many.map(([action, at]) => `${action} ${at}`).join(', ')}`, (real) =>
          Promise.all(many.map(([action, at]) => act(real, action, at))),
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

const byManagers = [
  { weight: 1, arbitrary: fc.constant(command('restart manager', ({ world }) => world.restartManager())) },
  // All leases are over: whoever asks first leads.
  { weight: 1, arbitrary: fc.constant(command('elect', ({ world }) => EmbeddedLeases.open(world.database.db))) },
  { weight: 2, arbitrary: fc.constant(command('settle', ({ world }) => world.manager.services.settle())) },
];

export const sessionCommands: fc.Arbitrary<Iterable<Command>> = fc.commands(
  [fc.oneof(...byUsers, ...byAgents, ...byPools, ...byTime, ...byManagers)],
  { maxCommands: 30, size: 'max' },
);
