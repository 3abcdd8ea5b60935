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
  expect(result).toMatchObject({ code: 7, exitCode: 7, stdout: 'out\n', stderr: 'err\n', notices: [] });
  const piped = await cluster.cli(['run', 'python', '-c', code.replace('sys.stdin.read()', 'input()')], {
    input: 'abc\n',
  });
  expect(piped).toMatchObject({ code: 7, stdout: expect.stringContaining('ABC') as string });
});

test('a killed program is told with its signal', async () => {
  const result = await run(['shell', '-c', 'sh -c "kill -9 \\$\\$"']);
  expect(result.code).toBe(137);
  const suicide = await run(['python', '-c', 'import os; os.kill(os.getpid(), 9)']);
  expect(suicide.code).toBe(137);
  expect(suicide.notices.map((notice) => notice.code)).toContain('program-killed');
  expect(suicide.notices[0]).toMatchObject({ hint: expect.stringMatching(/\S/) as string });
});

test('100 MB of output are cut at the limit with one notice, and the program ends undisturbed', async () => {
  const result = await run([
    'python',
    '-c',
    'import sys\nfor i in range(100): sys.stdout.write("x" * 1_000_000)\nprint("\\nend")',
  ]);
  expect(result.exitCode).toBe(0);
  expect(result.notices.map((notice) => notice.code)).toEqual(['output-limit-exceeded']);
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
  const result = await run(['-r', 'mem=2g', 'python', '-c', code]);
  expect(result.code).not.toBe(0);
  expect(result.notices.map((notice) => notice.code)).toContain('process-limit-reached');
});

test('too much memory ends the program with out-of-memory', async () => {
  const result = await run(['-r', 'mem=128m', 'python', '-c', 'x = bytearray(512 * 1024 * 1024); print("no")']);
  expect(result.code).not.toBe(0);
  expect(result.stdout).not.toContain('no');
  expect(result.notices.map((notice) => notice.code)).toContain('out-of-memory');
});

test('a program that closes its stdout still ends with its code', async () => {
  const result = await run(['python', '-c', 'import os, sys; os.close(1); sys.exit(3)']);
  expect(result).toMatchObject({ code: 3, exitCode: 3 });
});

test('a program that never ends is stopped at its time limit', async () => {
  const result = await run(['--timeout', '1s', 'python', '-c', 'while True: pass']);
  expect(result.code).toBe(124);
  expect(result.notices.map((notice) => notice.code)).toContain('execution-timeout');
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
