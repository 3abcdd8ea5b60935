/**
 * `npm run bench -- NAME [--quick] [--json] [--save]`: runs one benchmark, or lists them. `--save` writes the table
 * with machine and versions to bench/results/NAME.json and NAME.md.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bench, type BenchResult, percentile } from './bench.ts';

const folder = dirname(fileURLToPath(import.meta.url));
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && !['bench.ts', 'main.ts'].includes(file))
  .map((file) => file.slice(0, -3))
  .sort();

const args = process.argv.slice(2);
const flags = new Set(args.filter((arg) => arg.startsWith('--')));
const [name] = args.filter((arg) => !arg.startsWith('--'));

if (!name || !names.includes(name)) {
  console.error(`${name ? `There is no benchmark "${name}". ` : ''}Choose one: npm run bench -- ${names.join(' | ')}`);
  process.exit(2);
}

const { bench } = (await import(`./${name}.ts`)) as { bench: Bench };
const here = machine();
const result = await bench.run({ quick: flags.has('--quick') });
const document = { name, date: new Date().toISOString(), machine: here, ...result };

if (flags.has('--save')) {
  mkdirSync(join(folder, 'results'), { recursive: true });
  writeFileSync(join(folder, 'results', `${name}.json`), `${JSON.stringify(document, null, 2)}\n`);
  writeFileSync(join(folder, 'results', `${name}.md`), markdown(document));
}
console.log(flags.has('--json') ? JSON.stringify(document, null, 2) : markdown(document));
process.exit(result.targets.every((target) => target.ok) ? 0 : 1);

/** Median of `node -e 0` just before the run: how fast this machine is today. Shared machines differ by a factor of four. */
function emptyProcessMs(): number {
  const samples = Array.from({ length: 9 }, () => {
    const begun = performance.now();
    spawnSync(process.execPath, ['-e', '0']);
    return performance.now() - begun;
  });
  return Math.round(percentile(samples, 0.5));
}

function machine(): Record<string, string | number> {
  const lock = JSON.parse(readFileSync(join(folder, '..', 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string }>;
  };
  const version = (path: string): string => lock.packages[`node_modules/${path}`]?.version ?? '?';
  return {
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? '?'}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    emptyProcessMs: emptyProcessMs(),
    trpc: version('@trpc/server'),
    fastify: version('fastify'),
    pglite: version('@electric-sql/pglite'),
    ws: version('ws'),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: folder, encoding: 'utf8' }).trim(),
  };
}

function markdown({
  title,
  date,
  machine,
  columns,
  rows,
  targets,
}: BenchResult & { date: string; machine: object }): string {
  const cell = (value: string | number): string =>
    typeof value === 'number'
      ? String(Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3)))
      : value;
  const table = (head: string[], body: Array<Array<string | number>>): string => {
    const lines = [head, ...body.map((row) => row.map(cell))];
    const widths = head.map((_, i) => Math.max(...lines.map((line) => (line[i] ?? '').length)));
    const format = (line: string[]): string => `| ${line.map((text, i) => text.padEnd(widths[i] ?? 0)).join(' | ')} |`;
    return [format(head), format(widths.map((width) => '-'.repeat(width))), ...lines.slice(1).map(format)].join('\n');
  };
  return [
    `# ${title}`,
    '',
    `${date.slice(0, 10)} · ${Object.entries(machine)
      .map(([key, value]) => `${key} ${value}`)
      .join(' · ')}`,
    '',
    table(columns, rows),
    '',
    table(
      ['target', 'measured', 'limit', 'unit', 'kept'],
      targets.map((t) => [t.name, t.value, t.limit, t.unit, t.ok ? 'yes' : 'NO']),
    ),
    '',
  ].join('\n');
}
