import type { Database } from '@backend.ai/database';
import superjson from 'superjson';
import { type Bench, percentile } from './bench.ts';
import { ApiCalls } from './support/api-calls.ts';
import { Caller } from './support/http-load.ts';
import { type Servers, startServers } from './support/servers.ts';
import { startAgents } from './support/start-agents.ts';

/**
 * From the API call to RUNNING with a simulated agent whose kernels start in no time, so that all of it is ours: request,
 * rows, scheduling, ledger, order to the agent, its events. One session after another, as a user sees it: until the
 * answer to "wait until it runs". PostgreSQL, Redis, etcd, one manager; once in an empty cluster, once beside 5,000
 * agents that are full and 10,000 sessions that wait.
 */

/** A manager that has just started runs code that is not compiled yet: its first sessions are shown by themselves. */
const rounds = { full: { first: 300, later: 1_000 }, quick: { first: 20, later: 20 } };
const crowd = { agents: 5_000, pending: 10_000 };

export const bench: Bench = {
  name: 'start-overhead',
  async run({ quick }) {
    const counts = quick ? rounds.quick : rounds.full;
    const empty = await measure(counts);
    const crowded = await measure(counts, fillCrowd);
    const places = [
      { name: 'empty cluster', ...empty },
      { name: `${crowd.agents} agents, ${crowd.pending} pending`, ...crowded },
    ];
    const row = (name: string, samples: readonly number[]) => [
      name,
      percentile(samples, 0.5),
      percentile(samples, 0.99),
    ];
    return {
      title: `From the API call to RUNNING on an agent that takes no time (${counts.later} sessions, one after another)`,
      columns: ['cluster', 'p50 ms', 'p99 ms'],
      rows: places.flatMap(({ name, first, later }) => [
        row(`${name}, the first ${counts.first} after the start of the manager`, first),
        row(name, later),
      ]),
      targets: places.flatMap(({ name, later }) => [
        limit(`${name}, p50`, percentile(later, 0.5), 10),
        limit(`${name}, p99`, percentile(later, 0.99), 40),
      ]),
    };
  },
};

function limit(name: string, value: number, limitMs: number) {
  return { name, value, limit: limitMs, unit: 'ms', ok: value <= limitMs };
}

interface Samples {
  readonly first: number[];
  readonly later: number[];
}

async function measure(counts: { first: number; later: number }, fill?: typeof fillCrowd): Promise<Samples> {
  const servers = await startServers(fill);
  const caller = new Caller(servers.manager.port);
  try {
    await startAgents(servers, 1);
    const calls = new ApiCalls(servers);
    const samples: Samples = { first: [], later: [] };
    for (let round = 0; round < counts.first + counts.later; round++) {
      const session = `start-${round}`;
      const begun = performance.now();
      await caller.call(calls.mutation('session.create', { ...asked, name: session }));
      const answer = await caller.call(calls.query('session.wait', { session, until: 'running' }));
      const ms = performance.now() - begun;
      const { status, reason } = statusIn(answer);
      if (status !== 'RUNNING') throw new Error(`The session is ${status}: ${JSON.stringify(reason)}`);
      (round < counts.first ? samples.first : samples.later).push(ms);
      await caller.call(calls.mutation('session.destroy', { session }));
      await caller.call(calls.query('session.wait', { session, until: 'ended' }));
    }
    return samples;
  } finally {
    caller.close();
    await servers.stop();
  }
}

/** Before all that waits, as it has the higher priority. */
const asked = { image: 'python', resources: { cpu: '1', mem: '128m' }, priority: 50 };

function statusIn(answer: string): { status: string; reason: unknown } {
  const { result } = JSON.parse(answer) as { result: { data: Parameters<typeof superjson.deserialize>[0] } };
  return superjson.deserialize(result.data);
}

/** Agents that are full and heard of until next year, and sessions that are larger than any room. */
async function fillCrowd(db: Database, { accessKey }: Servers['credentials']): Promise<void> {
  const images = JSON.stringify([
    { name: 'local/python:3.11', architecture: 'x86_64', aliases: ['python'], language: 'python', minSlots: {} },
  ]);
  const id = (kind: number): string => `('00000000-0000-7000-800${kind}-' || lpad(to_hex(n), 12, '0'))::uuid`;
  await db.execute(`
    insert into agents (id, resource_group, address, data_address, architecture, version, rpc_version, backend, images,
      last_heartbeat)
    select 'crowd-' || n, 'default', 'ws://127.0.0.1:1', '127.0.0.1:1', 'x86_64', '0', 3, 'fake', '${images}'::jsonb,
      now() + interval '1 year'
    from generate_series(1, ${crowd.agents}) as n`);
  await db.execute(`
    insert into agent_resources (agent_id, slot_name, capacity, used)
    select 'crowd-' || n, slot, capacity, capacity from generate_series(1, ${crowd.agents}) as n,
      (values ('cpu', 1), ('mem', 1073741824)) as slots (slot, capacity)`);
  await db.execute(`
    insert into sessions (id, name, domain_name, project_id, user_id, access_key, image, architecture,
      resource_group, status, status_reason, requested_slots, request_id)
    select ${id(1)}, 'waiting-' || n, 'default', p.id, k.user_id, k.access_key, 'local/python:3.11', 'x86_64', 'default',
      'PENDING', 'queued', '{"cpu": "65", "mem": "536870912"}', 'bench'
    from generate_series(1, ${crowd.pending}) as n, keypairs k, projects p
    where k.access_key = '${accessKey}' and p.name = 'default'`);
  await db.execute(`
    insert into kernels (id, session_id, image, status_reason, requested_slots, request_id)
    select ${id(2)}, ${id(1)}, 'local/python:3.11', 'queued', '{"cpu": "65", "mem": "536870912"}', 'bench'
    from generate_series(1, ${crowd.pending}) as n`);
}
