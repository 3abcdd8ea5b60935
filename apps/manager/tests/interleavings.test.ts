import { isTerminal, mayFollow, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { CreateBehaviour, FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

/**
 * Users, agents and managers do what they like, in any order. At every moment the ledger is sound; and when everybody
 * is well again, nothing is stuck, nothing is left behind, and every session went a way that the table allows.
 */

let world: World;
let agents: FakeAgent[];
const up = new Set<FakeAgent>();

beforeAll(async () => {
  world = await createWorld();
  agents = [await world.addAgent('i-one'), await world.addAgent('i-two')];
  for (const agent of agents) up.add(agent);
});
afterAll(() => world.close());

interface Step {
  readonly what: string;
  readonly run: () => Promise<unknown>;
}

const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const live = async () => (await sessionsNow()).filter((session) => !isTerminal(session.status));
const sessionsNow = () => world.manager.services.api.session.list({ all: true, limit: 1000 }, world.ctx());
const pick = <T>(items: readonly T[], at: number): T | undefined => items[at % Math.max(1, items.length)];
const agentAt = (at: number): FakeAgent => pick(agents, at)!;
/** What somebody tries who may be too late. */
const tolerant = (work: Promise<unknown>): Promise<unknown> => work.catch(() => {});

async function stop(agent: FakeAgent, loseKernels: boolean): Promise<void> {
  if (!up.delete(agent)) return;
  await agent.stop({ loseKernels });
}

async function start(agent: FakeAgent): Promise<void> {
  if (up.has(agent)) return;
  up.add(agent);
  await agent.start();
}

const index = fc.nat(30);
const behaviours: CreateBehaviour[] = ['start', 'stall', 'refuse', 'lose-answer', 'lose-order', 'fail'];

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom(1, 1, 2, 3))
      .map(([cpu, clusterSize]) =>
        doing(`create ${clusterSize} of ${cpu}`, () =>
          world.create({
            resources: { cpu },
            clusterSize,
            clusterMode: clusterSize > 1 ? 'multi-node' : 'single-node',
          }),
        ),
      ),
  },
  {
    weight: 2,
    arbitrary: index.map((at) =>
      doing(`restart ${at}`, async () => {
        const session = pick(await live(), at);
        if (!session) return;
        const { restart } = world.manager.services.api.session;
        await tolerant(inRequest(() => restart({ session: session.id }, world.ctx())));
      }),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(index, fc.boolean()).map(([at, forced]) =>
      doing(`destroy ${at} ${forced}`, async () => {
        const session = pick(await live(), at);
        if (!session) return;
        const { destroy } = world.manager.services.api.session;
        await tolerant(inRequest(() => destroy({ session: session.id, forced }, world.ctx())));
      }),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(index, fc.constantFrom(...behaviours)).map(([at, behaviour]) =>
      doing(`${at} ${behaviour}`, async () => {
        agentAt(at).behaviour = behaviour;
      }),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(index, index).map(([at, kernel]) =>
      doing(`exit ${at} ${kernel}`, async () => {
        const id = pick([...agentAt(at).kernels.keys()], kernel);
        if (id) agentAt(at).exit(id, kernel);
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(index, fc.boolean())
      .map(([at, lose]) => doing(`stop ${at} ${lose}`, () => stop(agentAt(at), lose))),
  },
  { weight: 3, arbitrary: index.map((at) => doing(`start ${at}`, () => start(agentAt(at)))) },
  {
    weight: 1,
    arbitrary: index.map((at) =>
      doing(`lose ${at}`, async () => {
        await stop(agentAt(at), false);
        await world.forgetHeartbeats(agentAt(at).id);
      }),
    ),
  },
  { weight: 1, arbitrary: index.map((at) => doing(`grace over ${at}`, () => world.expireGrace(agentAt(at).id))) },
  {
    weight: 1,
    arbitrary: index.map((at) =>
      doing(`deadline ${at}`, async () => {
        const session = pick(await live(), at);
        if (session) await world.expireDeadline(session.id);
      }),
    ),
  },
  { weight: 1, arbitrary: fc.constant(null).map(() => doing('restart manager', () => world.restartManager())) },
  {
    weight: 2,
    arbitrary: fc.tuple(index, fc.boolean()).map(([at, hold]) =>
      doing(`hold events ${at} ${hold}`, async () => {
        agentAt(at).holdEvents = hold;
        await agentAt(at).flush();
      }),
    ),
  },
  { weight: 2, arbitrary: index.map((at) => doing(`repeat events ${at}`, () => tolerant(agentAt(at).repeatEvents()))) },
  {
    weight: 2,
    arbitrary: index.map((at) => doing(`old heartbeat ${at}`, () => tolerant(agentAt(at).repeatHeartbeat()))),
  },
  {
    weight: 1,
    arbitrary: index.map((at) =>
      doing(`ignore ends ${at}`, async () => {
        agentAt(at).destroyBehaviour = 'ignore';
      }),
    ),
  },
  { weight: 2, arbitrary: fc.constant(null).map(() => doing('settle', () => world.manager.services.settle())) },
);

function doing(what: string, run: () => Promise<unknown>): Step {
  return { what, run };
}

it('keeps the ledger sound and lets nothing get stuck, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      const trace: string[] = [];
      try {
        for (const { what, run } of steps) {
          trace.push(what);
          await run();
          expect(await world.manager.services.verifyLedger()).toEqual([]);
        }
        await heal();
      } catch (error) {
        throw new Error(`After: ${trace.join('; ')}`, { cause: error });
      }
    }),
    { numRuns: Number(process.env.INTERLEAVINGS ?? 10), endOnFailure: true },
  );
}, 300_000);

it('keeps a start that was given up out of the next one, in whatever order they meet', async () => {
  const [agent, other] = agents as [FakeAgent, FakeAgent];
  await stop(other, false);
  const meetings = ['tell', 'tell old', 'beat', 'finish', 'exit', 'settle'] as const;
  await fc.assert(
    fc.asyncProperty(fc.shuffledSubarray([...meetings]), fc.boolean(), async (order, startsBefore) => {
      agent.behaviour = 'stall';
      const { id } = await world.create();
      const old = (await world.until(id, 'PREPARING')).kernels[0]!.id;
      await stop(agent, false);
      await world.forgetHeartbeats(agent.id);
      await world.until(id, 'PENDING');
      agent.behaviour = 'start';
      agent.holdEvents = true;
      if (startsBefore) agent.finishStart(old);
      await start(agent);
      const meet: Record<(typeof meetings)[number], () => unknown> = {
        tell: () => tellNow(agent),
        'tell old': () => tolerant(agent.repeatEvents()),
        beat: () => tolerant(agent.heartbeat()),
        finish: () => agent.finishStart(old),
        exit: () => agent.exit(old),
        settle: () => world.manager.services.settle(),
      };
      for (const what of order) await meet[what]();
      agent.holdEvents = false;
      await tellNow(agent);
      const { kernels } = await waitFor(
        async () => {
          const view = await world.manager.services.api.session.get({ session: id }, world.ctx());
          expect(view.status, view.reason.code).not.toMatch(/ERROR|TERMINATED/);
          return view.status === 'RUNNING' && view;
        },
        { what: 'the new start', timeoutMs: 20_000 },
      );
      expect(kernels[0]!.id).not.toBe(old);
      expect(await world.manager.services.verifyLedger()).toEqual([]);
      await inRequest(() => world.manager.services.endAllSessions('user-requested', 30_000));
      await waitFor(() => agent.kernels.size === 0, { what: 'the agent is empty', timeoutMs: 20_000 });
    }),
    { numRuns: Number(process.env.INTERLEAVINGS ?? 4) },
  );
  await start(other);
}, 300_000);

/** Events are held back no longer than this. */
async function tellNow(agent: FakeAgent): Promise<void> {
  const held = agent.holdEvents;
  agent.holdEvents = false;
  await agent.flush();
  agent.holdEvents = held;
}

async function heal(): Promise<void> {
  for (const agent of agents) {
    agent.behaviour = 'start';
    agent.destroyBehaviour = 'end';
    agent.holdEvents = false;
    await start(agent);
    await agent.flush();
  }
  for (const agent of agents) for (const kernelId of agent.kernels.keys()) agent.finishStart(kernelId);
  // What waits starts or tells why it cannot: nothing is in between for long.
  await waitFor(
    async () => (await live()).every(({ status }) => ['PENDING', 'RUNNING', 'TERMINATING'].includes(status)),
    { what: 'all starts to end', timeoutMs: 30_000 },
  );
  for (const { status, reason } of await live()) {
    expect(status === 'PENDING' ? reason.code : 'queued').toMatch(
      /queued|insufficient|behind|refused|restart-requested|deprioritized/,
    );
  }
  expect(await inRequest(() => world.manager.services.endAllSessions('user-requested', 30_000))).toBe(0);
  await waitFor(() => agents.every((agent) => agent.kernels.size === 0), {
    what: 'agents without kernels',
    timeoutMs: 20_000,
  });
  expect(await world.manager.services.verifyLedger()).toEqual([]);
  const { used } = await world.manager.services.api.cluster.status(world.ctx());
  expect(Object.values(used).every((amount) => amount === '0')).toBe(true);
  for (const session of await sessionsNow()) {
    const history = await world.manager.services.api.session.history({ session: session.id }, world.ctx());
    for (const { from, to } of history) if (from !== null) expect(mayFollow(from, to), `${from} to ${to}`).toBe(true);
    for (const [at, entry] of history.entries()) expect(entry.from).toBe(at === 0 ? null : history[at - 1]!.to);
    expect(history.at(-1)?.to).toBe(session.status);
    // What ended is the attempt that was made last, and not one that was given up before.
    if (!/start-failed|self-terminated/.test(session.reason.code)) continue;
    expect(agents.some((agent) => session.kernels.some((kernel) => agent.ended.has(kernel.id)))).toBe(true);
  }
  const ordered = agents.map((agent) => new Set(agent.createCalls.map((call) => call.kernelId)));
  for (const kernelId of ordered[0]!) expect(ordered[1]!.has(kernelId), 'an attempt at two agents').toBe(false);
}
