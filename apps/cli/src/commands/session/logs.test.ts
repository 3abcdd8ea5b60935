import { type FakeApi, type FakeSession, startFakeApi } from '@backend.ai/client/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
let session: FakeSession;
beforeEach(async () => {
  api = await startFakeApi();
  await runCli(['session', 'create', '--name', 'work', 'python'], { api });
  session = [...api.sessions.values()][0] as FakeSession;
});
afterEach(() => api[Symbol.asyncDispose]());

it('follows to the end, each line once, however many pieces there are', async () => {
  session.output = Array.from({ length: 300 }, (_, n) => `line ${n}\n`);
  const { stdout, exitCode } = await runCli(['session', 'logs', '--follow', 'work'], { api });
  expect(exitCode).toBe(0);
  expect(stdout).toBe(session.output.join(''));
  // More than a few pieces do not wait: it pauses, and goes on behind the last one that was taken.
  expect(api.follows).toBeGreaterThan(1);
});

it('begins with the last lines', async () => {
  session.output = ['a\n', 'b\n', 'c\n'];
  expect((await runCli(['session', 'logs', '-f', '--tail', '2', 'work'], { api })).stdout).toBe('b\nc\n');
  expect((await runCli(['session', 'logs', '--tail', '1', 'work'], { api })).stdout).toBe('log of work\n');
  expect((await runCli(['session', 'logs', '--tail', '0', 'work'], { api })).stdout).toBe('');
  expect((await runCli(['session', 'logs', '--tail', 'many', 'work'], { api })).exitCode).not.toBe(0);
});
