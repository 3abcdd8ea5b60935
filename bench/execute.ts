import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@backend.ai/client';
import { Cluster } from '../apps/standalone/src/index.ts';
import { type Bench, percentile } from './bench.ts';
import { startBareKernel } from './support/bare-kernel.ts';
import { consoleText, executeCall, executeInAgent } from './support/execute-in-agent.ts';

/** Second and later executions of one expression: beside the bare runner, inside the agent, and through the API. */
export const bench: Bench = {
  name: 'execute',
  async run({ quick }) {
    const rounds = quick ? 50 : 1000;
    const folder = mkdtempSync(join(tmpdir(), 'bench-execute-'));
    const cluster = await Cluster.start({
      dataDir: join(folder, 'data'),
      port: 0,
      path: process.env.PATH ?? '',
      backend: 'process',
    });
    const bare = await startBareKernel(join(folder, 'bare'));
    try {
      const client = createClient(cluster.credentials);
      const session = await client.sessions.create({ image: 'python', resources: { cpu: '1', mem: '256m' } });
      const view = await session.waitUntilRunning();
      const kernelId = view.kernels[0]?.id ?? '';
      const code = '1 + 1';
      const kinds: Record<string, () => Promise<string>> = {
        'runner alone (socket, journal)': () => bare.execute(code),
        'inside the agent': () => executeInAgent(cluster, kernelId, code),
        'through the API (signed HTTP, manager, agent)': async () =>
          consoleText(await client.rpc.session.execute.mutate({ ...executeCall, code, session: session.id })),
      };
      const samples: Record<string, number[]> = {};
      for (let round = 0; round < rounds + 20; round++) {
        for (const [name, work] of Object.entries(kinds)) {
          const begun = performance.now();
          const text = await work();
          const ms = performance.now() - begun;
          if (text !== '2\n') throw new Error(`${name} answered ${JSON.stringify(text)}`);
          // The first ones warm up.
          if (round >= 20) samples[name] = [...(samples[name] ?? []), ms];
        }
      }
      const rows = Object.entries(samples).map(([name, values]) => [
        name,
        percentile(values, 0.5),
        percentile(values, 0.99),
      ]);
      const p50 = (name: string): number => percentile(samples[name] ?? [], 0.5);
      const target = (name: string, value: number, limit: number) => ({
        name,
        value,
        limit,
        unit: 'ms',
        ok: value <= limit,
      });
      return {
        title: `Second and later executions of \`${code}\` (${rounds} each, interleaved)`,
        columns: ['where', 'p50 ms', 'p99 ms'],
        rows,
        targets: [
          target('inside the agent, p50', p50('inside the agent'), 1),
          target('through the API, p50', p50('through the API (signed HTTP, manager, agent)'), 5),
        ],
      };
    } finally {
      await bare.end();
      await cluster.stop({ keepSessions: false });
      rmSync(folder, { recursive: true, force: true });
    }
  },
};
