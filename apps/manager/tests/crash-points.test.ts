import { agentFeatures, type ResourceGroupOptionsInput } from '@backend.ai/contract';
import { newId, type SessionStatus, sessionStatuses } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CrashPoints } from './crash-points.ts';
import { type Leg, longestLifeSec, longestWaitSec, pool, type Way, ways } from './crash-ways.ts';
import type { FakeAgent } from './fake-agent.ts';
import { inRequest } from './session-commands.ts';
import { createWorld, type World } from './world.ts';

/**
 * A manager is killed after each step of each way of a session. Another one on the same database, with the same agents,
 * brings the session where it was to go, with nothing lost, left behind or started twice. Users do again what was not
 * answered. Of steps of one name on one way the first is tried; `./scripts/test.sh --soak` tries each of them.
 */

let world: World;
let agents: FakeAgent[];
const crashes = new CrashPoints();

beforeAll(async () => {
  world = await createWorld({ crashPoints: crashes, config: { agentLostAfterMs: 1_000 } });
  const managers = ['node-1'];
  const swarm = { nodeId: 'node-1', managers, swarmId: 'swarm' };
  agents = [
    await world.addAgent('i-one', { backend: 'docker', swarm, features: [agentFeatures.warmSlots] }),
    await world.addAgent('i-two', { backend: 'docker', swarm: { nodeId: 'node-2', managers } }),
  ];
  await inRequest(() => world.manager.services.api.admin.warmPool.create({ ...pool, size: 0 }, world.ctx()));
  await world.database.db.execute(
    sql`update keypair_resource_policies set max_session_lifetime = ${longestLifeSec} where name = 'default'`,
  );
});
afterAll(() => world.close());

async function modifyGroup(options: ResourceGroupOptionsInput): Promise<void> {
  const usual = { preemption: { enabled: true }, pendingTimeout: longestWaitSec };
  const change = { name: 'default', options: { ...usual, ...options } };
  await inRequest(() => world.manager.services.api.admin.resourceGroup.modify(change as never, world.ctx()));
}

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
        await leg.act(name, { world, agents });
        acted = true;
      }
      return await leg.reached(name, { world, agents });
    },
    { timeoutMs: 25_000, what: `${name} is where it was to go` },
  );
}

/** Rows and things at agents that are there for sessions that live. */
async function leftBehind(): Promise<unknown[]> {
  const rows = await world.database.db.execute(sql`
    select session_id, 'network' as what from cluster_networks
    union all select session_id, 'keys' from session_key_pairs
    union all select id, 'slot' from warm_slots`);
  const atAgents = agents.flatMap(({ kernels, networks, warmSlots }) => [kernels, networks, warmSlots]);
  return [...rows, ...atAgents.flatMap((things) => [...things.keys()])];
}

/** Everybody is well, and everything ends. */
async function heal(): Promise<void> {
  await bury();
  crashes.stopCounting();
  for (const agent of agents) {
    agent.behaviour = 'start';
    agent.destroyBehaviour = 'end';
    if (!agent.isUp) await agent.start();
  }
  const { services } = world.manager;
  expect(await services.verifyLedger()).toEqual([]);
  await inRequest(() => services.api.admin.warmPool.modify({ name: pool.name, size: 0 }, world.ctx()));
  expect(await inRequest(() => services.endAllSessions('user-requested', 60_000))).toBe(0);
}

async function expectNothingLeft(name: string, { passes = [] }: Way): Promise<void> {
  const { services } = world.manager;
  await waitFor(
    async () => {
      expect(await leftBehind()).toEqual([]);
      return true;
    },
    { what: 'nothing is left behind' },
  );
  expect(await services.verifyLedger()).toEqual([]);
  const { used } = await services.api.cluster.status(world.ctx());
  expect(Object.values(used).filter((amount) => amount !== '0')).toEqual([]);
  const late = await world.database.db.execute<{ reason: string }>(sql`
    select distinct h.reason from session_history h join sessions s on s.id = h.session_id
    where s.name like ${`${name}%`} and h.reason like '%-timeout' order by 1`);
  expect(
    late.map(({ reason }) => reason),
    'deadlines that passed',
  ).toEqual(passes);
  const starts = agents.flatMap((agent) => agent.starts);
  expect(new Set(starts).size, 'each kernel is started once').toBe(starts.length);
  const claims = agents.flatMap((agent) => agent.claims);
  expect(new Set(claims).size, 'each warm slot is handed over once').toBe(claims.length);
}

describe('a manager that is killed after each step of', () => {
  it.for(ways)('$what', { timeout: 300_000 }, async (way, { annotate }) => {
    await heal();
    await modifyGroup(way.group ?? {});
    const points = new Set<string>();
    const names = new Set<string>();
    for (let tried = -1; tried < points.size; ) {
      tried = points.size;
      const name = `s-${newId().slice(-12)}`;
      for (const leg of way.before ?? []) await walk(leg, name);
      await world.manager.services.settle();
      // The first step that no manager has died with yet.
      crashes.killAt((step, nth) => {
        const point = process.env.SOAK ? `${nth}: ${step}` : step;
        const isNew = !points.has(point);
        points.add(point);
        return isNew;
      });
      const steps = (): string => `${way.what}, step after step: ${crashes.steps.join('; ')}`;
      try {
        for (const leg of way.legs) await walk(leg, name);
        // What was done last may be in the database before its manager knows.
        if (!crashes.killed) await world.manager.services.settle();
        for (const step of crashes.steps) names.add(step);
        await annotate(steps());
        await heal();
        await expectNothingLeft(name, way);
      } catch (error) {
        throw new Error(steps(), { cause: error });
      }
    }
    expect([...names]).toEqual(expect.arrayContaining([...way.by]));
  });
});

/** Nothing leads to these. */
const neverThere: Partial<Record<SessionStatus, string>> = {
  PREPARED: 'agents tell when they fetch an image and when they go on to create, and nothing of the moment between',
};

it('passes each state of a session on these ways', async () => {
  const rows = await world.database.db.execute<{ status: string }>(
    sql`select distinct to_status as status from session_history where kernel_id is null`,
  );
  const reachable = sessionStatuses.filter((status) => !(status in neverThere));
  expect(rows.map(({ status }) => status).sort()).toEqual(reachable.sort());
});
