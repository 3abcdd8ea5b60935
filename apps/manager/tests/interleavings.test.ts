import { agentFeatures } from '@backend.ai/contract';
import { mayFollow, occupyingStatuses, type SessionStatus, statusReasons } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import {
  inRequest,
  liveSessions,
  pool,
  poolThatGoes,
  preemptionModes,
  sessionCommands,
  sessionsOf,
  setPreemption,
  startAgent,
  stopAgent,
  tolerant,
  urgent,
} from './session-commands.ts';
import { testCoordination } from './test-coordination.ts';
import { createWorld, type World } from './world.ts';

/**
 * Users, agents and managers do what they like, in any order. At every moment the ledger is sound; and when everybody
 * is well again, nothing is stuck, nothing is left behind, and every session went a way that the table allows. On servers
 * managers meet on Redis and etcd; otherwise neither of them hears of what the other does.
 */

let world: World;
let agents: FakeAgent[];
const mostSessions = 3;

/** What is too large for all agents waits for larger ones, and other sessions for it. */
const waitingForever = ['exceeds-agents', 'dependency-unfinished'];
/** Where sessions are, or why they wait, when everybody is well. */
const settled = [
  ...['RUNNING', 'TERMINATING', 'DEPRIORITIZING', 'insufficient-resources', 'behind-head-of-line', 'quota-exceeded'],
  ...waitingForever,
];

beforeAll(async () => {
  world = await createWorld({ coordination: await testCoordination() });
  const keeps = { features: [agentFeatures.warmSlots] };
  agents = [await world.addAgent('i-one', keeps), await world.addAgent('i-two', keeps)];
  // Of slots that suit the smallest of the sessions.
  const kind = { resourceGroup: 'default', image: 'python', resources: { cpu: '1' } };
  await pools().create({ name: pool, ...kind, size: 0 }, world.ctx());
  // Beside it, with the same agents: now one leads, now the other.
  await world.addManager({ takesOver: true });
  await world.database.db.execute(sql`update keypair_resource_policies set max_concurrent_sessions = ${mostSessions}`);
});
afterAll(() => world.close());

/** Where a session was. */
const been = new Set<SessionStatus>();

const pools = () => world.manager.services.api.admin.warmPool;

it('keeps the ledger sound and lets nothing get stuck, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(preemptionModes, fc.nat(2), sessionCommands, async (mode, crowd, commands) => {
      await inRequest(() => setPreemption(world, mode));
      // Beside them there is room for little: what is urgent takes their place.
      for (let nth = 0; nth < crowd; nth++) {
        const { id } = await world.create({ resources: { cpu: 3 } });
        await world.until(id, 'RUNNING');
      }
      await fc.asyncModelRun(() => ({ model: { mostSessions }, real: { world, agents } }), commands);
      await heal();
    }),
    {
      numRuns: Number(process.env.INTERLEAVINGS ?? 10),
      endOnFailure: true,
      examples: [
        ['terminate', 2, [urgent]],
        ['reschedule', 2, [urgent]],
        ['off', 0, [poolThatGoes]],
      ],
    },
  );
  // Where little chance leads by itself.
  for (const status of ['RESERVED', 'PREEMPTED', 'RESCHEDULING'] as const) expect([...been]).toContain(status);
}, 300_000);

it('keeps a start that was given up out of the next one, in whatever order they meet', async () => {
  const [agent, other] = agents as [FakeAgent, FakeAgent];
  await stopAgent(other, false);
  const meetings = ['tell', 'tell old', 'beat', 'finish', 'exit', 'settle'] as const;
  await fc.assert(
    fc.asyncProperty(fc.shuffledSubarray([...meetings]), fc.boolean(), async (order, startsBefore) => {
      agent.behaviour = 'stall';
      const { id } = await world.create();
      const old = (await world.until(id, 'PREPARING')).kernels[0]!.id;
      await stopAgent(agent, false);
      await world.forgetHeartbeats(agent.id);
      await world.until(id, 'PENDING');
      agent.behaviour = 'start';
      agent.holdEvents = true;
      if (startsBefore) agent.finishStart(old);
      await startAgent(agent);
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
        { what: 'the new start' },
      );
      expect(kernels[0]!.id).not.toBe(old);
      expect(await world.manager.services.verifyLedger()).toEqual([]);
      await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000));
      await waitFor(() => agent.kernels.size === 0, { what: 'the agent is empty' });
    }),
    { numRuns: Number(process.env.INTERLEAVINGS ?? 4) },
  );
  await startAgent(other);
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
    agent.warmBehaviour = 'ready';
    agent.holdEvents = false;
    await startAgent(agent);
    await agent.flush();
  }
  for (const agent of agents) for (const kernelId of agent.kernels.keys()) agent.finishStart(kernelId);
  // What waits starts or tells why it cannot: nothing is in between for long, and nothing waits for what cannot come.
  await waitFor(
    async () => {
      const live = await liveSessions(world);
      const nobodyEnds = !live.some(({ status }) => occupyingStatuses.includes(status));
      for (const { status, reason } of live) {
        const where = status === 'PENDING' ? reason.code : status;
        expect(nobodyEnds ? waitingForever : settled).toContain(where);
      }
      return true;
    },
    { what: 'all starts to end' },
  );
  expect(await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000))).toBe(0);
  await inRequest(() => pools().modify({ name: pool, size: 0 }, world.ctx()));
  await waitFor(() => {
    const left = agents.map(({ id, kernels, warmSlots }) => [
      id,
      Object.fromEntries(kernels),
      Object.fromEntries(warmSlots),
    ]);
    expect(left).toEqual(agents.map(({ id }) => [id, {}, {}]));
    return true;
  });
  expect(await world.manager.services.verifyLedger()).toEqual([]);
  const { used } = await world.manager.services.api.cluster.status(world.ctx());
  expect(Object.values(used).every((amount) => amount === '0')).toBe(true);
  for (const session of await sessionsOf(world)) {
    const history = await world.manager.services.api.session.history({ session: session.id }, world.ctx());
    for (const { to } of history) been.add(to);
    for (const { from, to } of history) if (from !== null) expect(mayFollow(from, to), `${from} to ${to}`).toBe(true);
    for (const [at, entry] of history.entries()) expect(entry.from).toBe(at === 0 ? null : history[at - 1]!.to);
    expect(history.at(-1)?.to).toBe(session.status);
    expect(Object.keys(statusReasons)).toContain(session.reason.code);
    // What ended is the attempt that was made last, and not one that was given up before.
    if (!/start-failed|self-terminated/.test(session.reason.code)) continue;
    expect(agents.some((agent) => session.kernels.some((kernel) => agent.ended.has(kernel.id)))).toBe(true);
  }
  const ordered = agents.map((agent) => new Set(agent.createCalls.map((call) => call.kernelId)));
  for (const kernelId of ordered[0]!) expect(ordered[1]!.has(kernelId), 'an attempt at two agents').toBe(false);
}
