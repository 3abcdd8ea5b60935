import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
beforeEach(async () => {
  api = await startFakeApi();
  for (const name of ['work', 'more-work']) await cli(`session create --name ${name} python`);
});
afterEach(() => api[Symbol.asyncDispose]());

const cli = (line: string): Promise<CliOutcome> => runCli(line.split(' '), { api, cwd: '/' });

it('sessions are paused and resumed by name, and tell since when they stand still', async () => {
  expect((await cli('session pause work more-work')).stdout).toBe(
    'Session work stands still\nSession more-work stands still\n',
  );
  expect((await cli('session info work')).stdout).toMatch(/paused +1970-01-01/);
  expect((await cli('session resume work')).stdout).toBe('Session work goes on\n');
  const { stdout } = await cli('session resume --json more-work');
  expect(JSON.parse(stdout).sessions).toMatchObject([{ name: 'more-work', pausedAt: null }]);
  expect((await cli('session info work')).stdout).not.toContain('paused');
});
