import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@backend.ai/client';
import { engineSocket } from '@backend.ai/testing';
import { Cluster } from '../apps/standalone/src/index.ts';
import { type Bench, percentile } from './bench.ts';

/**
 * From the API call to RUNNING in a container, with and without a warm pool: the call that creates the session, and the
 * answer to "wait until it runs". Embedded cluster on the container engine of this machine, one session after another; the
 * next warm one begins when the pool is full again. The cold ones run in the same cluster, beside the full pool, with
 * amounts that no slot has.
 */
const rounds = { full: { warm: 1_000, cold: 20 }, quick: { warm: 20, cold: 5 } };
/** Each claim waits for the container of the next slot: slow machines make fewer of them in this time. */
const mostMs = 15 * 60_000;
const poolSize = 2;
const cpu = '1';
/** The smallest of all: it is the claims that are measured. */
const image = process.env.BENCH_IMAGE ?? 'backend.ai/shell:latest';

export const bench: Bench = {
  name: 'warm-claim',
  async run({ quick }) {
    const count = quick ? rounds.quick : rounds.full;
    const folder = mkdtempSync(join(tmpdir(), 'bench-warm-'));
    const options = {
      dataDir: join(folder, 'data'),
      port: 0,
      path: process.env.PATH ?? '',
      backend: 'docker',
      engineSocket: engineSocket(),
      // More than the machine has: slots, and sessions beside them.
      slots: { cpu: '8', mem: String(8 * 256 * 1024 ** 2) },
    } as const;
    const cluster = await Cluster.start(options);
    const steps = new Map<string, number[]>();
    try {
      const { rpc } = createClient(cluster.credentials);
      const pools = rpc.admin.warmPool;
      const start = async (session: string, mem: string): Promise<number> => {
        const begun = performance.now();
        await rpc.session.create.mutate({ name: session, image, resources: { cpu, mem } });
        const { status, reason } = await rpc.session.wait.query({ session, until: 'running' });
        const ms = performance.now() - begun;
        if (status !== 'RUNNING') throw new Error(`The session is ${status}: ${JSON.stringify(reason)}`);
        return ms;
      };
      const end = async (session: string): Promise<void> => {
        await rpc.session.destroy.mutate({ session, forced: false });
        await rpc.session.wait.query({ session, until: 'ended' });
      };
      await pools.create.mutate({ name: 'bench', image, resources: { cpu, mem: '256m' }, size: poolSize });
      const ready = async (least: number): Promise<void> => {
        while (((await pools.list.query())[0]?.ready ?? 0) < least) await new Promise((done) => setTimeout(done, 20));
      };
      await ready(poolSize);
      const cold: number[] = [];
      for (let round = -1; round < count.cold; round++) {
        const ms = await start(`cold-${round}`, '300m');
        if (round >= 0) cold.push(ms);
        await end(`cold-${round}`);
      }
      const warm: number[] = [];
      let missed = 0;
      const begun = performance.now();
      const passedMs = (): number => performance.now() - begun;
      for (let round = -2; round < count.warm && passedMs() < mostMs; round++) {
        await ready(poolSize);
        const session = `warm-${round}`;
        const ms = await start(session, '256m');
        const { timings } = await rpc.session.get.query({ session });
        const isWarm = timings.steps.some(({ step }) => step === 'hand-over');
        if (!isWarm) missed += 1;
        else if (round >= 0) {
          warm.push(ms);
          for (const { step, ms: took } of timings.steps) steps.set(step, [...(steps.get(step) ?? []), took]);
        }
        await end(session);
      }
      const minutes = passedMs() / 60_000;
      const at = (values: number[], fraction: number): number => percentile(values, fraction);
      const row = (name: string, values: number[]): Array<string | number> => [name, at(values, 0.5), at(values, 0.99)];
      const target = (name: string, value: number, limit: number, unit: string) => ({
        ...{ name, value, limit, unit },
        ok: value <= limit,
      });
      return {
        title: `From the API call to RUNNING in a container (${warm.length} warm in ${minutes.toPrecision(2)} minutes, ${cold.length} cold, one after another)`,
        columns: ['what', 'p50 ms', 'p99 ms'],
        rows: [
          row('cold', cold),
          row('warm', warm),
          ...[...steps].map(([step, values]) => row(`  agent step ${step}`, values)),
        ],
        targets: [
          target('warm, p50', at(warm, 0.5), 50, 'ms'),
          target('warm, p99', at(warm, 0.99), 100, 'ms'),
          target('sessions that found a slot taken from them', missed, 0, 'sessions'),
        ],
      };
    } finally {
      await cluster.stop({ keepSessions: false });
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
