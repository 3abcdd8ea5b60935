import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
beforeAll(async () => {
  api = await startFakeApi();
});
afterAll(() => api[Symbol.asyncDispose]());

const cli = (line: string): Promise<CliOutcome> => runCli(line.split(' '), { api, cwd: '/' });

describe('a session that is refused', () => {
  it.each([
    ['--starts-at 1h', '--starts-at is for batch sessions only.'],
    ['--batch-timeout 1h', '--batch-timeout is for batch sessions only.'],
    ['--type batch', '--startup-command is required for batch sessions.'],
    ['--priority 101', '--priority must be a whole number from 0 to 100.'],
    ['--job-priority 101 --starts-at 1h', '--job-priority must be a whole number from 0 to 100'],
    ['--callback-url nowhere', '--callback-url must be an http or https URL without credentials.'],
  ])('with %s is told so in the words of its options', async (options, problem) => {
    const { exitCode, stderr } = await cli(`session create ${options} python`);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(problem);
    expect(stderr).not.toMatch(/startsAt|timeoutMs|startupCommand|jobPriority|callbackUrl/);
  });
});

it.each(['-c 1', '--exec make'])(
  'a run %s whose session is refused is told so in the words of its options',
  async (what) => {
    const { exitCode, stderr } = await cli(`run ${what} --job-priority 101 --callback-url nowhere python`);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('--job-priority must be a whole number from 0 to 100');
    expect(stderr).toContain('--callback-url must be an http or https URL');
    expect(stderr).toContain('./backend.ai run --help');
  },
);

it('what to do next with a job is to follow what it writes: executions wait for it', async () => {
  const { stdout } = await cli('session create --type batch -c make --name job-1 python');
  expect(stdout).toContain('  next: ./backend.ai session logs -f job-1\n');
  expect((await cli('session create --name other-1 python')).stdout).toContain('session exec other-1 -- ls -la');
});
