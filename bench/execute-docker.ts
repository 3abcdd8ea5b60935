import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, createClient } from '@backend.ai/client';
import { engineSocket } from '@backend.ai/testing';
import { Cluster } from '../apps/standalone/src/index.ts';
import { type Bench, percentile } from './bench.ts';
import { openBareEngine } from './support/bare-container.ts';
import { executeInAgent } from './support/execute-in-agent.ts';

const code = 'print(1 + 1)';
const python = 'backend.ai/python:3.11';

/**
 * Executions in containers, inside the agent: the first one of a new kernel beside that of a bare container of the same
 * image, whose runner is asked without anything between, and later ones. The Python image has ipykernel, that of Node.js
 * the runner's own interpreter.
 */
export const bench: Bench = {
  name: 'execute-docker',
  async run({ quick }) {
    const [firsts, rounds] = quick ? [2, 50] : [15, 1000];
    const folder = mkdtempSync(join(tmpdir(), 'bench-execute-'));
    const socket = engineSocket();
    const bare = await openBareEngine(socket, python, join(folder, 'bare'));
    const cluster = await Cluster.start({
      ...{
        dataDir: join(folder, 'data'),
        port: 0,
        path: process.env.PATH ?? '',
        backend: 'docker',
        engineSocket: socket,
      },
    });
    const client = createClient(cluster.credentials);
    const samples = {
      bareFirst: [] as number[],
      first: [] as number[],
      ipykernel: [] as number[],
      own: [] as number[],
    };
    try {
      for (let round = 0; round < firsts; round++) {
        const container = await bare.start();
        samples.bareFirst.push(await timed(() => container.execute(code), '2'));
        await container.end();
        const { kernelId, session } = await start(client, python);
        samples.first.push(await timed(() => executeInAgent(cluster, kernelId, code), '2'));
        await session.destroy();
      }
      const ipykernel = await start(client, python);
      const own = await start(client, 'backend.ai/node:20');
      // The first ones warm up.
      for (let round = -20; round < rounds; round++) {
        const ipykernelMs = await timed(() => executeInAgent(cluster, ipykernel.kernelId, code), '2');
        const ownMs = await timed(() => executeInAgent(cluster, own.kernelId, '1 + 1'), '2');
        if (round < 0) continue;
        samples.ipykernel.push(ipykernelMs);
        samples.own.push(ownMs);
      }
    } finally {
      await cluster.stop({ keepSessions: false });
      await bare.close();
      rmSync(folder, { recursive: true, force: true });
    }
    const p50 = (values: number[]): number => percentile(values, 0.5);
    const row = (name: string, values: number[]): Array<string | number> => [
      name,
      p50(values),
      percentile(values, 0.99),
    ];
    const within = (name: string, value: number, limit: number, unit: string) => ({
      ...{ name, value, limit, unit },
      ok: value <= limit,
    });
    return {
      title: `Executions in containers (${firsts} new kernels, then ${rounds} in one)`,
      columns: ['what', 'p50 ms', 'p99 ms'],
      rows: [
        row('first of a bare container, ipykernel', samples.bareFirst),
        row('first of a session, ipykernel, inside the agent', samples.first),
        row('later, ipykernel, inside the agent', samples.ipykernel),
        row("later, the runner's own interpreter (Node.js), inside the agent", samples.own),
      ],
      targets: [
        within('first, to the bare container', p50(samples.first) / p50(samples.bareFirst), 1.2, '×'),
        within('later, ipykernel, p50', p50(samples.ipykernel), 3, 'ms'),
        within("later, the runner's own, p50", p50(samples.own), 1, 'ms'),
      ],
    };
  },
};

async function start(client: Client, image: string) {
  const session = await client.sessions.create({ image, resources: { cpu: '1', mem: '512m' } });
  const view = await session.waitUntilRunning();
  return { session, kernelId: view.kernels[0]?.id ?? '' };
}

async function timed(execute: () => Promise<string>, expected: string): Promise<number> {
  const begun = performance.now();
  const text = await execute();
  const ms = performance.now() - begun;
  if (text.trim() !== expected) throw new Error(`answered ${JSON.stringify(text)}`);
  return ms;
}
