import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@backend.ai/client';
import { Cluster } from '../apps/standalone/src/index.ts';
import { signedRequest } from '../tests/support/signed-request.ts';
import { type Bench, percentile } from './bench.ts';
import { startBareKernel } from './support/bare-kernel.ts';

/**
 * One API call, `POST /session`, that answers when the session is RUNNING, beside the same sandbox and interpreter started
 * by nothing but `spawn`. The difference is what the platform costs: request, rows, scheduling, ledger, RPC, steps, events.
 */
export const bench: Bench = {
  name: 'session-start',
  async run({ quick }) {
    const rounds = quick ? 10 : 150;
    const folder = mkdtempSync(join(tmpdir(), 'bench-start-'));
    const cluster = await Cluster.start({
      dataDir: join(folder, 'data'),
      port: 0,
      path: process.env.PATH ?? '',
      backend: 'process',
    });
    const samples = { bare: [] as number[], ours: [] as number[] };
    const steps = new Map<string, number[]>();
    try {
      const client = createClient(cluster.credentials);
      for (let round = 0; round < rounds + 5; round++) {
        const begunBare = performance.now();
        const bare = await startBareKernel(join(folder, `bare-${round}`));
        const bareMs = performance.now() - begunBare;
        await bare.end();

        const name = `bench-${round}`;
        const begun = performance.now();
        const answer = await signedRequest(cluster.credentials, 'POST', '/session', {
          body: { name, image: 'python', config: { resources: { cpu: '1', mem: '128m' } } },
        });
        const ms = performance.now() - begun;
        const { status } = answer.body as { status: string };
        if (status !== 'RUNNING') throw new Error(`the session is ${answer.text}`);
        if (round >= 5) {
          samples.bare.push(bareMs);
          samples.ours.push(ms);
          const view = await client.rpc.session.get.query({ session: name });
          for (const { step, ms } of view.timings.steps) steps.set(step, [...(steps.get(step) ?? []), ms]);
        }
        await client.rpc.session.destroy.mutate({ session: name });
        await client.rpc.session.wait.query({ session: name, until: 'ended' }).catch(() => {});
      }
    } finally {
      await cluster.stop({ keepSessions: false });
      rmSync(folder, { recursive: true, force: true });
    }
    const at = (values: number[], fraction: number): number => percentile(values, fraction);
    const row = (name: string, values: number[]): Array<string | number> => [name, at(values, 0.5), at(values, 0.99)];
    const target = (name: string, value: number, limit: number) => ({
      name,
      value,
      limit,
      unit: 'ms',
      ok: value <= limit,
    });
    const over = (fraction: number): number => at(samples.ours, fraction) - at(samples.bare, fraction);
    return {
      title: `From the API call to RUNNING (${rounds} sessions, one after another)`,
      columns: ['what', 'p50 ms', 'p99 ms'],
      rows: [
        row('sandbox + interpreter + first answer, bare', samples.bare),
        row('POST /session to RUNNING', samples.ours),
        ['  difference', over(0.5), over(0.99)],
        ...[...steps].map(([step, values]) => row(`  agent step ${step}`, values)),
      ],
      targets: [target('added to bare, p50', over(0.5), 15), target('added to bare, p99', over(0.99), 60)],
    };
  },
};
