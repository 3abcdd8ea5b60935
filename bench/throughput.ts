import { setTimeout as delay } from 'node:timers/promises';
import { type Database, openPostgres } from '@backend.ai/database';
import { ensureRequestId } from '@backend.ai/telemetry';
import { sql } from 'drizzle-orm';
import type { Bench } from './bench.ts';
import { ApiCalls } from './support/api-calls.ts';
import { Caller } from './support/http-load.ts';
import { processorMs } from './support/processor-time.ts';
import { type Servers, startServers } from './support/servers.ts';
import { Slurm } from './support/slurm.ts';
import { startAgents } from './support/start-agents.ts';

/**
 * Batch sessions from the API call over RUNNING to TERMINATED: one manager as operators start it, PostgreSQL, Redis, etcd,
 * and 200 simulated agents behind real links, each session created by a signed call of its own. The kernels are
 * simulated: nothing runs in them. Slurm runs real jobs of `true`, submitted at once as one array, which is its fastest
 * way. Load, agents, servers and Slurm share the cores of the machine.
 */

const agents = 200;
const inFlight = 32;

interface Stage {
  readonly stage: string;
  readonly p50: number;
  readonly p99: number;
}

export const bench: Bench = {
  name: 'throughput',
  async run({ quick }) {
    const slurmVersion = await Slurm.version();
    if (!slurmVersion) throw new Error('Slurm is the peer: run as root, after apt-get install slurm-wlm');
    const [sessions, jobs] = quick ? [300, 100] : [5_000, 500];
    const ours = await runSessions(sessions);
    const slurm = await Slurm.start();
    let slurmMs: number;
    try {
      await slurm.runJobs(20);
      slurmMs = await slurm.runJobs(jobs);
    } finally {
      await slurm.stop();
    }
    const perSecond = (sessions * 1_000) / ours.ms;
    const slurmPerSecond = (jobs * 1_000) / slurmMs;
    return {
      title: `Sessions per second, created → RUNNING → TERMINATED (${sessions} simulated kernels, ${agents} agents)`,
      columns: ['what', 'per second', 'p50 ms', 'p99 ms'],
      rows: [
        ['batch sessions, simulated kernels', perSecond, '', ''],
        ['  created, accepted by the API', (sessions * 1_000) / ours.createdMs, '', ''],
        ...ours.stages.map(({ stage, p50, p99 }) => [`  ${stage}`, '', p50, p99]),
        ...ours.processorMs.map(([name, ms]): [string, number, string, string] => [
          `  processor time of ${name}, ms per session`,
          ms,
          '',
          '',
        ]),
        [`${slurmVersion}, real jobs of true (${jobs})`, slurmPerSecond, '', ''],
      ],
      targets: [
        { name: 'sessions', value: perSecond, limit: 250, unit: '/s', ok: perSecond >= 250 },
        {
          name: 'beside Slurm',
          value: perSecond / slurmPerSecond,
          limit: 2,
          unit: '×',
          ok: perSecond >= 2 * slurmPerSecond,
        },
      ],
    };
  },
};

interface Run {
  readonly ms: number;
  readonly createdMs: number;
  readonly stages: Stage[];
  /** Of each process, per session. Other work on the machine does not change it much. */
  readonly processorMs: Array<[name: string, ms: number]>;
}

async function runSessions(count: number): Promise<Run> {
  const servers = await startServers();
  try {
    await startAgents(servers, agents);
    const { db, close } = await openPostgres({ url: servers.databaseUrl, maxConnections: 1 });
    servers.onStop(close);
    return await ensureRequestId(async () => {
      const calls = new ApiCalls(servers);
      await createAll(servers.manager.port, calls, 'warm', 200);
      await allEnded(db, 'warm');
      const before = await processorTimes(servers);
      const begun = performance.now();
      await createAll(servers.manager.port, calls, 'run', count);
      const createdMs = performance.now() - begun;
      await allEnded(db, 'run');
      const ms = performance.now() - begun;
      const spent = [...(await processorTimes(servers))].map(([name, after]): [string, number] => [
        name,
        (after - (before.get(name) ?? 0)) / count,
      ]);
      return { ms, createdMs, stages: await stagesOf(db), processorMs: spent };
    });
  } finally {
    await servers.stop();
  }
}

async function processorTimes({ processes }: Servers): Promise<Map<string, number>> {
  const { user, system } = process.cpuUsage();
  const times = new Map([['load', (user + system) / 1_000]]);
  for (const [name, pid] of processes) times.set(name, await processorMs(pid));
  return times;
}

async function createAll(port: number, calls: ApiCalls, prefix: string, count: number): Promise<void> {
  const callers = Array.from({ length: inFlight }, () => new Caller(port));
  let next = 0;
  try {
    await Promise.all(
      callers.map(async (caller) => {
        while (next < count) {
          const name = `${prefix}-${String(next++).padStart(6, '0')}`;
          const resources = { cpu: '1', mem: '128m' };
          const job = { name, image: 'python', type: 'batch', startupCommand: 'exit 0', resources };
          await caller.call(calls.mutation('session.create', job));
        }
      }),
    );
  } finally {
    for (const caller of callers) caller.close();
  }
}

/** @throws when one did not succeed, or not all have ended in ten minutes */
async function allEnded(db: Database, prefix: string): Promise<void> {
  const deadline = performance.now() + 600_000;
  for (;;) {
    const [row] = await db.execute<{ open: number; failed: number }>(sql`
      select count(*) filter (where status not in ('TERMINATED', 'ERROR', 'CANCELLED'))::int as open,
        count(*) filter (where status in ('ERROR', 'CANCELLED') or (status = 'TERMINATED' and result <> 'success'))::int as failed
      from sessions where name like ${`${prefix}-%`}`);
    if (row?.failed) throw new Error(`${row.failed} sessions failed.`);
    if (row?.open === 0) return;
    if (performance.now() > deadline) throw new Error(`${row?.open} sessions have not ended in ten minutes.`);
    await delay(50);
  }
}

async function stagesOf(db: Database): Promise<Stage[]> {
  const stages = {
    'created → scheduled': sql`scheduled_at - created_at`,
    'scheduled → RUNNING': sql`started_at - scheduled_at`,
    'RUNNING → TERMINATED': sql`terminated_at - started_at`,
    'created → TERMINATED': sql`terminated_at - created_at`,
  };
  const found: Stage[] = [];
  for (const [stage, interval] of Object.entries(stages)) {
    const [row] = await db.execute<{ p50: number; p99: number }>(sql`
      select percentile_cont(0.5) within group (order by extract(epoch from ${interval}) * 1000)::float8 as p50,
        percentile_cont(0.99) within group (order by extract(epoch from ${interval}) * 1000)::float8 as p99
      from sessions where name like 'run-%'`);
    found.push({ stage, p50: row?.p50 ?? Number.NaN, p99: row?.p99 ?? Number.NaN });
  }
  return found;
}
