import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
// Asserts that no process and no kernel folder is left after all that follows.
afterAll(() => cluster.stop());

interface RunDocument {
  requestId: string;
  sessionId: string;
  exitCode: number;
  stdout: string;
  stderr: string;
  notices: Array<{ code: string; message: string; hint: string; requestId?: string }>;
}

/** Asserts that a fault is one clear error: code, hint, and the request id of the run, which the cluster has logged. */
function expectNotice({ requestId, notices }: RunDocument, code: string): void {
  const said = notices.filter((notice) => notice.code === code);
  expect(said).toEqual([
    expect.objectContaining({ message: expect.stringMatching(/\S/), hint: expect.stringMatching(/\S/) }),
  ]);
  expect(requestId).toMatch(/\S/);
  expect(said[0]?.requestId ?? requestId).toBe(requestId);
  expect(cluster.logs().some((record) => record.request_id === requestId)).toBe(true);
}

async function run(
  args: readonly string[],
  options: { input?: string } = {},
): Promise<RunDocument & { code: number | null }> {
  const result = await cluster.cli(['run', '--json', ...args], options);
  return { ...(JSON.parse(result.stdout) as RunDocument), code: result.code };
}

test('output, input, arguments and the exit code are those of the program', async () => {
  const code = 'import sys; print(sys.stdin.read().upper()); print("err", file=sys.stderr); sys.exit(7)';
  const result = await run(['shell', '-c', 'echo out; echo err >&2; exit 7']);
  expect(result).toMatchObject({ code: 7, exitCode: 7, stdout: 'out\n', stderr: 'err\n' });
  expect(result.notices).toEqual([
    expect.objectContaining({ code: 'program-failed', requestId: result.requestId, data: { exitCode: 7 } }),
  ]);
  const piped = await cluster.cli(['run', 'python', '-c', code.replace('sys.stdin.read()', 'input()')], {
    input: 'abc\n',
  });
  expect(piped).toMatchObject({ code: 7, stdout: expect.stringContaining('ABC') as string });
  expect(piped.stderr).toContain('The program ended with exit code 7. [program-failed]\n');
});

test('a killed program is told with its signal', async () => {
  const result = await run(['shell', '-c', 'sh -c "kill -9 \\$\\$"']);
  expect(result.code).toBe(137);
  const suicide = await run(['python', '-c', 'import os; os.kill(os.getpid(), 9)']);
  expect(suicide.code).toBe(137);
  expectNotice(suicide, 'program-killed');
});

test('100 MB of output are cut at the limit with one notice, and the program ends undisturbed', async () => {
  const result = await run([
    'python',
    '-c',
    'import sys\nfor i in range(100): sys.stdout.write("x" * 1_000_000)\nprint("\\nend")',
  ]);
  expect(result.exitCode).toBe(0);
  expectNotice(result, 'output-limit-exceeded');
  expect(result.stdout.length).toBeGreaterThan(1_000_000);
  expect(result.stdout.length).toBeLessThan(100_000_000);
});

test('1,000 children do not harm the machine and vanish with the session', async () => {
  const code = [
    'import os, time',
    'for i in range(1000):',
    '    if os.fork() == 0:',
    '        time.sleep(1000)',
    '        os._exit(0)',
    'print("started")',
  ].join('\n');
  const result = await run(['-r', 'mem=2g', '--name', 'forks', '--no-rm', 'python', '-c', code]);
  expect(result.code).not.toBe(0);
  expectNotice(result, 'process-limit-reached');
  expect(cluster.remains().processes.length).toBeGreaterThan(100);
  await cluster.json(['session', 'destroy', 'forks']);
  await waitFor(() => cluster.remains().processes.length === 0);
});

test('a server that a program has left behind ends with the session, and its port is free', async () => {
  const code = [
    'import os, signal, socket, time',
    'server = socket.create_server(("127.0.0.1", 0))',
    'print(server.getsockname()[1])',
    'if os.fork() == 0:',
    '    os.setsid()',
    '    os.environ.clear()',
    '    os.execve("/bin/sleep", ["sleep", "1000"], {}) if os.fork() else time.sleep(1000)',
  ].join('\n');
  const result = await run(['--name', 'server', '--no-rm', 'python', '-c', code]);
  const port = Number(result.stdout.trim());
  await waitFor(() => cluster.remains().ports.includes(port));
  await cluster.json(['session', 'destroy', 'server']);
  await waitFor(() => cluster.remains().processes.length === 0);
  expect(cluster.remains().ports).not.toContain(port);
});

test('too much memory ends the program with out-of-memory', async () => {
  const result = await run(['-r', 'mem=128m', 'python', '-c', 'x = bytearray(512 * 1024 * 1024); print("no")']);
  expect(result.code).not.toBe(0);
  expect(result.stdout).not.toContain('no');
  expectNotice(result, 'out-of-memory');
});

test('a program that closes its stdout still ends with its code', async () => {
  const result = await run(['python', '-c', 'import os, sys; os.close(1); sys.exit(3)']);
  expect(result).toMatchObject({ code: 3, exitCode: 3, notices: [{ code: 'program-failed' }] });
});

test('a program that never ends is stopped at its time limit', async () => {
  const result = await run(['--timeout', '1s', 'python', '-c', 'while True: pass']);
  expect(result.code).toBe(124);
  expectNotice(result, 'execution-timeout');
});

test('every session of these programs has ended with a reason, and its resources are free again', async () => {
  await waitFor(async () => (await cluster.json<{ sessions: unknown[] }>(['ps'])).sessions.length === 0);
  const { sessions } = await cluster.json<{ sessions: Array<{ status: string; reason: { code: string } }> }>([
    'ps',
    '--all',
  ]);
  expect(sessions.length).toBeGreaterThan(5);
  for (const session of sessions) {
    expect(['TERMINATED', 'CANCELLED']).toContain(session.status);
    expect(session.reason.code).toMatch(/^[a-z-]+$/);
  }
  const status = await cluster.json<{ used: Record<string, string> }>(['status']);
  for (const amount of Object.values(status.used)) expect(Number(amount)).toBe(0);
});
