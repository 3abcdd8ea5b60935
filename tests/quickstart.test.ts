import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { launcher, runCommand } from './support/command.ts';

interface QuickstartDocument {
  requestId: string;
  sessionId: string;
  endpoint: string;
  image: string;
  exitCode: number;
  output: string;
  files: Array<{ name: string; path: string; bytes: number }>;
  timings: Record<string, number>;
  warnings: string[];
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'quickstart-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function quickstart(args: readonly string[], env?: Record<string, string | undefined>, wrapper?: string[]) {
  return command(['quickstart', '--exit', '--port', '0', '--backend', 'process', ...args], env, wrapper);
}

function command(args: readonly string[], env: Record<string, string | undefined> = {}, wrapper: string[] = []) {
  const [file = launcher, ...rest] = [...wrapper, launcher, ...args];
  return runCommand(file, rest, {
    cwd: folder,
    env: {
      BACKEND_SKIP_BUILD: '1',
      BACKEND_DATA_DIR: join(folder, 'data'),
      XDG_CONFIG_HOME: join(folder, 'config'),
      ...env,
    },
  });
}

test('quickstart runs the example from an empty directory and shows what it did', async () => {
  const result = await quickstart([]);
  expect(result.stderr + result.stdout).toMatch(/1990s\s+521\s+360\.38/);
  for (const text of ['request id', 'session', 'http://127.0.0.1:', 'result.json', 'co2.svg', './backend.ai']) {
    expect(result.stdout.toLowerCase()).toContain(text);
  }
  expect(result.code).toBe(0);
});

test('quickstart --json prints one document with the result, the ids and the timings', async () => {
  const result = await quickstart(['--json']);
  expect(result.code, result.stderr).toBe(0);
  const document = JSON.parse(result.stdout) as QuickstartDocument;
  expect(document).toMatchObject({ exitCode: 0, image: expect.stringMatching(/^local\/python:3/) as string });
  expect(document.requestId).toMatch(/^[A-Za-z0-9._:-]+$/);
  expect(document.timings).toMatchObject({ totalMs: expect.any(Number) as number });
  const files = Object.fromEntries(document.files.map((file) => [file.name, readFileSync(file.path, 'utf8')]));
  expect(JSON.parse(files['result.json'] ?? '')).toMatchObject({ weeks: 2225, amplitude: 6.11 });
  expect(files['co2.svg']).toContain('<polyline');
});

test('without python3 the same job runs in the Node runtime with the same result', async () => {
  // In a mount namespace of its own, where every Python of the system is covered by something that is no program.
  const cover =
    'for f in /usr/bin/python3* /usr/local/bin/python3*; do [ ! -f "$f" ] || mount --bind /dev/null "$f"; done; exec "$@"';
  const namespaces = process.getuid?.() === 0 ? ['-m'] : ['-Urm'];
  const result = await quickstart(['--json'], { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` }, [
    'unshare',
    ...namespaces,
    'sh',
    '-c',
    cover,
    'sh',
  ]);
  expect(result.code, result.stderr).toBe(0);
  const document = JSON.parse(result.stdout) as QuickstartDocument;
  expect(document.image).toMatch(/^local\/node:/);
  expect(document.output).toMatch(/1990s\s+521\s+360\.38/);
});

/** An ordinary user, also where the tests run as root, on a machine that lets nobody make user namespaces. */
const withoutNamespaces = [
  ...['unshare', '--user', '--map-user=1000', '--map-group=1000', '--keep-caps', 'sh', '-c'],
  'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"',
  'sh',
];

test('without any sandbox quickstart warns an ordinary user and runs the example all the same', async () => {
  const result = await quickstart(['--json'], {}, withoutNamespaces);
  expect(result.code, result.stderr).toBe(0);
  const document = JSON.parse(result.stdout) as QuickstartDocument;
  expect(document.warnings).toEqual([expect.stringContaining('without isolation')]);
  expect(result.stderr).toContain(`Warning: ${document.warnings[0]}`);
  expect(document.output).toMatch(/1990s\s+521\s+360\.38/);
});

test('without any sandbox a cluster that stays is not started unasked', async () => {
  const result = await command(['up', '--port', '0', '--backend', 'process', '--json'], {}, withoutNamespaces);
  expect(result.code).toBe(1);
  expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: 'isolation-unavailable' } });
});

test.skipIf(process.getuid?.() !== 0)(
  'without any sandbox quickstart warns root, too, and runs the example',
  async () => {
    // Programs run as users of their own, who come by the real path.
    chmodSync(folder, 0o755);
    const cover = 'for tool in bwrap unshare; do mount --bind /dev/null "$(command -v "$tool")"; done; exec "$@"';
    const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` };
    const result = await quickstart(['--json'], env, ['unshare', '-m', 'sh', '-c', cover, 'sh']);
    expect(result.code, result.stderr).toBe(0);
    const document = JSON.parse(result.stdout) as QuickstartDocument;
    expect(document.warnings).toEqual([expect.stringContaining('without isolation')]);
    expect(document.output).toMatch(/1990s\s+521\s+360\.38/);
  },
);

test('a failing quickstart exits with 1 and leaves no kernel behind', async () => {
  // No folder to write the result into.
  const result = await quickstart(['--json', '--output', '/dev/null/nowhere']);
  expect(result.code).toBe(1);
  expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: expect.any(String) as string } });
  expect(readdirSync(join(folder, 'data', 'agent', 'scratch'))).toEqual([]);
});
