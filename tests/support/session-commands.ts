import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestCluster } from './cluster.ts';
import type { CommandResult } from './command.ts';
import { follow } from './following.ts';

export interface SessionCommandsOptions {
  readonly backend: 'process' | 'docker';
  readonly python: string;
  /** Left out where there is none. */
  readonly node?: string;
  /** Where a program listens so that the agent reaches it. */
  readonly listenOn: string;
  /** A free port there. */
  readonly port: number;
}

/** What users do with sessions on the command line is the same whatever makes the kernels. Answers the cluster. */
export function sessionCommands(options: SessionCommandsOptions): () => TestCluster {
  const { backend, python, node, listenOn, port } = options;
  const name = 'hands-on';
  let cluster: TestCluster;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'session-commands-'));
    cluster = await TestCluster.start(['--backend', backend]);
    const amounts = ['-r', 'cpu=1', '-r', 'mem=512m', '--preopen', String(port)];
    await cluster.json(['session', 'create', '--name', name, ...amounts, python]);
  }, 120_000);
  afterAll(async () => {
    await cluster.stop();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  const exec = (...args: string[]): Promise<CommandResult> => cluster.cli(['session', 'exec', name, ...args]);

  const snippets: Array<[image: string, code: string]> = [[python, 'print(6 * 7)']];
  if (node !== undefined) snippets.push([node, 'console.log(6 * 7)']);
  it.each(snippets)('a snippet runs in a session of its own: %s', async (image, code) => {
    expect(await cluster.cli(['run', image, '-c', code])).toMatchObject({ code: 0, stdout: '42\n' });
  });

  it('a session keeps state, takes input and tells exit codes', async () => {
    expect(await exec('-c', 'x = 41')).toMatchObject({ code: 0, stdout: '' });
    expect(await exec('-c', 'x + 1')).toMatchObject({ code: 0, stdout: '42\n' });
    const asked = await cluster.cli(['session', 'exec', name, '-c', 'print("hello", input("name? "))'], {
      input: 'Bob\n',
    });
    expect(asked).toMatchObject({ code: 0, stdout: 'name? hello Bob\n' });
    const failed = await exec('-c', '1 / 0');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('ZeroDivisionError');
    expect((await exec('--', 'sh', '-c', 'exit 3')).code).toBe(3);
  });

  it('files are built and run; what follows a failed build is skipped', async () => {
    const main = join(folder, 'main.py');
    writeFileSync(main, 'print("main ran", open("out.txt").read().strip())\n');
    const steps = ['--clean', 'rm -f out.txt', '--exec', 'python3 main.py'];
    const built = await cluster.cli(['run', ...steps, '--build', 'echo built > out.txt', python, main]);
    expect(built).toMatchObject({ code: 0, stdout: 'main ran built\n' });
    const failed = await cluster.cli(['run', ...steps, '--build', 'exit 3', python, main]);
    expect(failed).toMatchObject({ code: 127, stdout: '' });
  });

  it('files go in and out unchanged, and are listed', async () => {
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7) % 256));
    writeFileSync(join(folder, 'bytes.bin'), bytes);
    expect((await cluster.cli(['session', 'upload', name, join(folder, 'bytes.bin')])).code).toBe(0);
    expect((await cluster.cli(['session', 'ls', name])).stdout).toContain('bytes.bin');
    const target = mkdtempSync(join(folder, 'down-'));
    expect((await cluster.cli(['session', 'download', name, 'bytes.bin', '--dest', target])).code).toBe(0);
    expect(readFileSync(join(target, 'bytes.bin')).equals(bytes)).toBe(true);
  });

  it('a terminal is one for the shell in it, and its exit code is that of the command', async () => {
    const typed = { input: 'tty; echo sum-$((40 + 2))\nexit 5\n' };
    const ended = await cluster.cli(['session', 'terminal', name], typed);
    expect(ended.code).toBe(5);
    expect(ended.stdout).toMatch(/^\/dev\/pts\/\d+\r$/m);
    expect(ended.stdout).toMatch(/^sum-42\r$/m);
  });

  it('a port of the session that programs listen on is opened on this machine until interrupted', async () => {
    const listed = await cluster.cli(['apps', name]);
    expect(listed.stdout).toMatch(new RegExp(`^${port} +preopen +${port} *$`, 'm'));
    const serve = [
      'import http.server as h, threading',
      'open("page", "w").write("hello from inside")',
      `s = h.ThreadingHTTPServer((${JSON.stringify(listenOn)}, ${port}), h.SimpleHTTPRequestHandler)`,
      'threading.Thread(target=s.serve_forever, daemon=True).start()',
    ];
    expect((await exec('-c', serve.join('\n'))).code).toBe(0);
    const { address, text, ended } = await visit(
      cluster,
      ['app', name, String(port), '--bind', '127.0.0.2:0'],
      '/page',
    );
    expect(address).toMatch(/^127\.0\.0\.2:[1-9]\d*$/);
    expect(text).toBe('hello from inside');
    expect(ended.code).toBe(0);
    const taken = await cluster.cli(['app', name, String(port), '--bind', new URL(cluster.credentials.endpoint).host]);
    expect([taken.code, taken.stderr]).toEqual([1, expect.stringContaining('cannot be listened on')]);
    const none = await cluster.cli(['session', 'start-service', name, 'jupyter']);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain(`It has: ${port}`);
  });

  it('logs hold what was written, and a destroyed session is gone', async () => {
    expect((await cluster.cli(['session', 'logs', name])).stdout).toContain('hello Bob');
    expect((await cluster.cli(['session', 'destroy', name])).code).toBe(0);
    expect((await cluster.cli(['ps'])).stdout).not.toContain(name);
    expect(cluster.remains()).toEqual({ processes: [], ports: [], scratch: [] });
  });

  return () => cluster;
}

/** Opens a service of a session by a command, asks for a page of it, and interrupts the command. */
export async function visit(
  cluster: TestCluster,
  command: readonly string[],
  path: string,
): Promise<{ readonly address: string; readonly text: string; readonly ended: CommandResult }> {
  const following = follow(cluster, command);
  try {
    const address = await following.until((said) => /is at (\S+) until/.exec(said)?.[1]);
    const text = await (await fetch(`http://${address}${path}`)).text();
    return { address, text, ended: await following.interrupt() };
  } finally {
    await following.interrupt();
  }
}
