import type { ResourceGroupOptionsInput, UserActor } from '@backend.ai/contract';
import { schedule } from '@backend.ai/scheduler';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiCaller, addMember, apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** What the scheduler plans with an option of a resource group, and what with another one. No agent is open: nothing starts. */

let world: World;
let greedy: UserActor;
let modest: UserActor;

beforeAll(async () => {
  world = await createWorld();
  greedy = (await addMember(world, 'default')).actor;
  modest = (await addMember(world, 'default')).actor;
  const users = [greedy.email, modest.email];
  await admin((api) => api.admin.project.addMembers({ project: 'default', users }));
});
afterAll(() => world.close());

const admin = <T>(work: (api: ApiCaller) => Promise<T>): Promise<T> => apiOf(world, world.admin)(work);

async function closedAgent(id: string, resourceGroup: string, slots: Record<string, string>): Promise<void> {
  await world.addAgent(id, { slots });
  await admin((api) => api.admin.agent.modify({ id, resourceGroup, schedulable: false }));
}
const queue = async (actor: UserActor, resourceGroup: string): Promise<string> => {
  const asked = { image: 'python', resources: { cpu: 1, mem: '64m' }, resourceGroup, project: 'default' };
  return (await apiOf(world, actor)((api) => api.session.create(asked))).session.id;
};

/** Sessions of the group with their agents, in the order in which they would be placed if its agents were open. */
async function planned(group: string): Promise<ReadonlyArray<readonly [session: string, agent: string | undefined]>> {
  const snapshot = await world.manager.services.schedulerSnapshot();
  const ours = <Thing extends { readonly resourceGroup: string }>(things: readonly Thing[]): Thing[] =>
    things.filter(({ resourceGroup }) => resourceGroup === group);
  const agents = ours(snapshot.agents).map((agent) => ({ ...agent, schedulable: true }));
  const { placements } = schedule({ ...snapshot, agents, pending: ours(snapshot.pending) });
  return placements.map(({ sessionId, kernels }) => [sessionId, kernels[0]?.agentId]);
}

/** With these options; the leader hears of them a moment after they are set. */
async function expectPlanned(group: string, options: ResourceGroupOptionsInput, expected: object): Promise<void> {
  await admin((api) => api.admin.resourceGroup.modify({ name: group, options }));
  await waitFor(async () => JSON.stringify(await planned(group)) === JSON.stringify(expected), {
    what: `with ${JSON.stringify(options)} comes ${JSON.stringify(expected)}`,
  });
  expect(await planned(group)).toEqual(expected);
}

describe('agentSelectionPriority', () => {
  it('says which amount of the agents is compared first', async () => {
    await admin((api) => api.admin.resourceGroup.create({ name: 'choice' }));
    await closedAgent('i-memory', 'choice', { cpu: '4', mem: String(16 * 1024 ** 3) });
    await closedAgent('i-cores', 'choice', { cpu: '16', mem: String(4 * 1024 ** 3) });
    const session = await queue(world.admin, 'choice');
    for (const [agentSelectionStrategy, byMemory, byCores] of [
      ['dispersed', 'i-memory', 'i-cores'],
      ['concentrated', 'i-cores', 'i-memory'],
    ] as const) {
      const strategy = { agentSelectionStrategy };
      await expectPlanned('choice', { ...strategy, agentSelectionPriority: ['mem', 'cpu'] }, [[session, byMemory]]);
      await expectPlanned('choice', { ...strategy, agentSelectionPriority: ['cpu', 'mem'] }, [[session, byCores]]);
    }
  });
});

type FairShare = NonNullable<ResourceGroupOptionsInput['fairShare']>;
interface Use {
  readonly by: 'greedy' | 'modest';
  readonly slots: Readonly<Record<string, string>>;
  readonly daysAgo: number;
}
const cores = (by: Use['by'], cpu: number, daysAgo: number): Use => ({ by, slots: { cpu: String(cpu) }, daysAgo });
const lately = [cores('greedy', 4, 0), cores('modest', 1, 0)];

describe('of fair shares', () => {
  const cases: Readonly<
    Record<
      keyof Required<FairShare>,
      { readonly used: readonly Use[]; readonly counts: FairShare; readonly not: FairShare }
    >
  > = {
    halfLifeDays: {
      used: [cores('greedy', 4, 14), cores('modest', 1, 0)],
      counts: { halfLifeDays: 366 },
      not: { halfLifeDays: 1 },
    },
    lookbackDays: {
      used: [cores('greedy', 4, 9), cores('greedy', 0.5, 0), cores('modest', 1, 0)],
      counts: { lookbackDays: 28, halfLifeDays: 366 },
      not: { lookbackDays: 5, halfLifeDays: 366 },
    },
    // Where it is next to nothing, all use beyond it is one.
    defaultWeight: { used: lately, counts: { defaultWeight: 1 }, not: { defaultWeight: 0.000_1 } },
    slotWeights: {
      used: [cores('greedy', 4, 0), { by: 'modest', slots: { mem: String(1024 ** 3) }, daysAgo: 0 }],
      counts: { slotWeights: { cpu: 1, mem: 0 } },
      not: { slotWeights: { cpu: 0, mem: 1 } },
    },
  };

  beforeAll(async () => {
    // Before any group shares: from then on use is read every few minutes.
    for (const [name, { used }] of Object.entries(cases))
      for (const { by, slots, daysAgo } of used)
        await world.database.db.execute(sql`
          insert into usage_records (id, session_id, session_name, kernel_id, domain_name, project_id, user_id, access_key,
            resource_group, agent_id, slots, began_at, ended_at)
          select gen_random_uuid(), gen_random_uuid(), 's', gen_random_uuid(), 'default', p.id,
            ${(by === 'greedy' ? greedy : modest).userId}::uuid, 'k', ${name}, 'i-one', ${JSON.stringify(slots)}::jsonb,
            now() - make_interval(days => ${daysAgo}) - interval '20 hours',
            now() - make_interval(days => ${daysAgo}) - interval '2 hours'
          from projects p where p.name = 'default'`);
    for (const name of Object.keys(cases)) {
      await admin((api) => api.admin.resourceGroup.create({ name, scheduler: 'fair-share' }));
      await closedAgent(`i-${name}`, name, { cpu: '4', mem: String(4 * 1024 ** 3) });
    }
  });

  it.each(Object.entries(cases))('%s says whether the one who used much has to wait', async (name, { counts, not }) => {
    const [first, second] = [await queue(greedy, name), await queue(modest, name)];
    const [ofGreedy, ofModest] = [
      [first, `i-${name}`],
      [second, `i-${name}`],
    ];
    await expectPlanned(name, { fairShare: counts }, [ofModest, ofGreedy]);
    await expectPlanned(name, { fairShare: not }, [ofGreedy, ofModest]);
  });
});
