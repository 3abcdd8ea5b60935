import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, createClient, type Session } from '@backend.ai/client';
import { engineSocket } from '@backend.ai/testing';
import { Cluster } from '../apps/standalone/src/index.ts';
import { type Bench, percentile } from './bench.ts';
import { openBareEngine } from './support/bare-container.ts';
import { executeInAgent } from './support/execute-in-agent.ts';

const code = 'print(1 + 1)';
const turnRounds = 50;
const python = 'backend.ai/python:3.11';
const node = 'backend.ai/node:20';

/**
 * Executions in containers, inside the agent: the first one of a new kernel beside that of a bare container of the same
 * image, whose runner is asked without anything between, and later ones, beside the runners of bare containers. The Python
 * image has ipykernel, that of Node.js the runner's own interpreter. The peer of ipykernel is what its own client gets.
 */
export const bench: Bench = {
  name: 'execute-docker',
  async run({ quick }) {
    const [firsts, rounds] = quick ? [2, 50] : [15, 1000];
    const folder = mkdtempSync(join(tmpdir(), 'bench-execute-'));
    const socket = engineSocket();
    const bare = await openBareEngine(socket, python, join(folder, 'bare'));
    const bareNode = await openBareEngine(socket, node, join(folder, 'bare-node'));
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
      bareIpykernel: [] as number[],
      ipykernel: [] as number[],
      ipykernelClient: [] as number[],
      bareOwn: [] as number[],
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
      const own = await start(client, node);
      const bareIpykernel = await bare.start();
      const bareOwn = await bareNode.start();
      const kinds = {
        bareIpykernel: () => bareIpykernel.execute(code),
        ipykernel: () => executeInAgent(cluster, ipykernel.kernelId, code),
        bareOwn: () => bareOwn.execute('1 + 1'),
        own: () => executeInAgent(cluster, own.kernelId, '1 + 1'),
      };
      // In turns, so that all see the same machine; not one by one, so that none finds the caches full of the others.
      for (let turn = 0; turn < rounds / turnRounds; turn++) {
        for (const [kind, execute] of Object.entries(kinds)) {
          for (let warmUp = 0; warmUp < 10; warmUp++) await execute();
          for (let round = 0; round < turnRounds; round++) {
            samples[kind as keyof typeof kinds].push(await timed(execute, '2'));
          }
        }
      }
      samples.ipykernelClient.push(...(await ofItsOwnClient(ipykernel.session, rounds)));
    } finally {
      await cluster.stop({ keepSessions: false });
      await bare.close();
      await bareNode.close();
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
        row('later, ipykernel as it comes, asked by its own client in the container (peer)', samples.ipykernelClient),
        row('later, ipykernel, runner of a bare container', samples.bareIpykernel),
        row('later, ipykernel, inside the agent', samples.ipykernel),
        row("later, the runner's own interpreter (Node.js), bare container", samples.bareOwn),
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

async function ofItsOwnClient(session: Session, rounds: number): Promise<number[]> {
  const file = new URL('support/ipykernel_peer.py', import.meta.url);
  await session.upload('ipykernel_peer.py', readFileSync(file));
  const run = session.exec(`python3 ipykernel_peer.py ${rounds}`);
  let text = '';
  for await (const item of run) if (item[0] === 'stdout') text += item[1];
  const { exitCode } = await run.result;
  if (exitCode !== 0) throw new Error(`ipykernel's own client ended with ${exitCode}`);
  return text.trim().split('\n').map(Number);
}

async function timed(execute: () => Promise<string>, expected: string): Promise<number> {
  const begun = performance.now();
  const text = await execute();
  const ms = performance.now() - begun;
  if (text.trim() !== expected) throw new Error(`answered ${JSON.stringify(text)}`);
  return ms;
}
