import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bench, percentile } from './bench.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const launcher = join(root, 'backend.ai');

interface Case {
  readonly name: string;
  readonly args: readonly string[];
  /** Times of `node -e 0`, where one is promised. */
  readonly limit?: number;
}

const cases: readonly Case[] = [
  { name: 'node -e 0', args: ['-e', '0'] },
  { name: './backend.ai --version', args: [launcher, '--version'], limit: 1.4 },
  { name: './backend.ai --help', args: [launcher, '--help'], limit: 1.4 },
  { name: './backend.ai session --help', args: [launcher, 'session', '--help'], limit: 1.4 },
  {
    name: './backend.ai ps (loaded, fails without a cluster)',
    args: [launcher, 'ps', '--endpoint', 'http://127.0.0.1:1'],
  },
  { name: './backend.ai mgr config check', args: [launcher, 'mgr', 'config', 'check'] },
  { name: './backend.ai ag config check', args: [launcher, 'ag', 'config', 'check'] },
];

const env = { ...process.env, BACKEND_SKIP_BUILD: '1', BACKEND_ACCESS_KEY: 'AKIA', BACKEND_SECRET_KEY: 'secret' };

function timeMs(args: readonly string[], environment: NodeJS.ProcessEnv): number {
  const begun = process.hrtime.bigint();
  spawnSync(process.execPath, args, { env: environment, stdio: 'ignore' });
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

/** How long commands take from the shell's point of view; rounds are interleaved, so that noise meets all alike. */
export const bench: Bench = {
  name: 'cli',
  async run({ quick }) {
    execFileSync(process.execPath, [launcher, '--help'], { stdio: 'ignore' });
    const rounds = quick ? 5 : 40;
    const runs = [...cases];
    // `npm run bench -- cli` with BACKEND_ENDPOINT and keys set measures a real answer, too.
    const cluster = process.env.BACKEND_ENDPOINT;
    if (cluster) runs.push({ name: './backend.ai ps', args: [launcher, 'ps'] });
    const samples = new Map(runs.map(({ name }) => [name, [] as number[]]));
    for (let round = -2; round < rounds; round++) {
      for (const { name, args } of runs) {
        const own = name === './backend.ai ps' ? { ...process.env, BACKEND_SKIP_BUILD: '1' } : env;
        const ms = timeMs(args, own);
        if (round >= 0) samples.get(name)?.push(ms);
      }
    }
    const median = (name: string): number => percentile(samples.get(name) ?? [], 0.5);
    const floor = median('node -e 0');
    return {
      title: `Cold start of commands, ${rounds} rounds`,
      columns: ['command', 'median ms', 'p95 ms', '× node -e 0'],
      rows: runs.map(({ name }) => [
        name,
        median(name).toFixed(1),
        percentile(samples.get(name) ?? [], 0.95).toFixed(1),
        (median(name) / floor).toFixed(2),
      ]),
      targets: runs.flatMap(({ name, limit }) => {
        if (limit === undefined) return [];
        const value = Math.round((median(name) / floor) * 100) / 100;
        return [{ name, value, limit, unit: '× node -e 0', ok: value <= limit }];
      }),
    };
  },
};
