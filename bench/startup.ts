import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bench, percentile } from './bench.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** The time from the spawn of the command to the line that says ready, as a user would wait for it. */
async function up(dataDir: string): Promise<{ ms: number; residentMiB: number; child: ChildProcess }> {
  const begun = performance.now();
  const child = spawn(
    process.execPath,
    [join(root, 'backend.ai'), 'up', '--json', '--port', '0', '--backend', 'process', '--data-dir', dataDir],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  await once(child.stdout, 'data');
  const ms = performance.now() - begun;
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return { ms, residentMiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024, child };
}

async function end(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM');
  if (child.exitCode === null) await once(child, 'exit');
}

/** A Node.js process that does nothing, and one that only opens an empty PGlite directory: the floor under ours. */
async function bare(code: string): Promise<number> {
  const begun = performance.now();
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { cwd: root, stdio: 'inherit' });
  await once(child, 'exit');
  return performance.now() - begun;
}

export const bench: Bench = {
  name: 'startup',
  async run({ quick }) {
    const rounds = quick ? 2 : 9;
    const samples = {
      node: [] as number[],
      pglite: [] as number[],
      reopen: [] as number[],
      empty: [] as number[],
      existing: [] as number[],
    };
    const resident: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const folder = mkdtempSync(join(tmpdir(), 'bench-startup-'));
      try {
        samples.node.push(await bare(''));
        const open = `import { PGlite } from '@electric-sql/pglite'; const db = await PGlite.create(${JSON.stringify(join(folder, 'bare'))}); await db.query('select 1'); process.exit(0);`;
        samples.pglite.push(await bare(open));
        samples.reopen.push(await bare(open));
        for (const kind of ['empty', 'existing'] as const) {
          const { ms, residentMiB, child } = await up(join(folder, 'data'));
          samples[kind].push(ms);
          resident.push(residentMiB);
          await end(child);
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
    const median = (values: number[]): number => percentile(values, 0.5);
    const row = (name: string, values: number[]): Array<string | number> => [
      name,
      median(values),
      Math.max(...values),
      median(values) / median(samples.node),
    ];
    const target = (name: string, value: number, limit: number, unit: string) => ({
      name,
      value,
      limit,
      unit,
      ok: value <= limit,
    });
    return {
      title: 'From `up` to ready',
      columns: ['what', 'median ms', 'worst ms', '× empty node process'],
      rows: [
        row('node -e ""', samples.node),
        row('node + new PGlite directory, nothing else', samples.pglite),
        row('node + existing PGlite directory, nothing else', samples.reopen),
        row('backend.ai up, empty data directory', samples.empty),
        row('backend.ai up, existing data directory', samples.existing),
      ],
      targets: [
        target('empty data directory to ready', median(samples.empty), 3000, 'ms'),
        target('existing data directory to ready', median(samples.existing), 1000, 'ms'),
        target('resident with everything in it (worst)', Math.max(...resident), 550, 'MiB'),
      ],
    };
  },
};
