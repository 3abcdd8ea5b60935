import type { TaskView } from '@backend.ai/client';
import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { AppError } from '@backend.ai/core';
import { afterEach, describe, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
afterEach(() => api[Symbol.asyncDispose]());

const task: TaskView = {
  ...{ id: '7c1f5a4e-0b1c-4c52-8f35-9c3e1d2a5b6c', kind: 'commit', current: 0, total: 0, message: '' },
  ...{ state: 'running', result: null, error: null },
};
const result = { image: 'backend.ai/customized/u-1/tools:1', architecture: 'x86_64', agent: 'i-one' };

async function commit(line: string, end: Partial<TaskView>): Promise<CliOutcome> {
  const watch = async function* () {
    yield task;
    yield { ...task, ...end };
  };
  api = await startFakeApi({ services: { task: { watch } } });
  await runCli(['session', 'create', '--name', 'work', 'python'], { api, cwd: '/' });
  return await runCli(line.split(' '), { api, cwd: '/' });
}

describe('session commit', () => {
  it('follows the image until it is there, and says where that is', async () => {
    const { exitCode, stdout } = await commit('session commit work tools:1', { state: 'done', result });
    expect(stdout).toBe(
      'tools:1 is an image of yours now, on i-one, and there only: backend.ai/customized/u-1/tools:1\n',
    );
    expect(exitCode).toBe(0);
  });

  it('prints what it made as JSON', async () => {
    const { stdout } = await commit('session convert-to-image --json work tools:1', { state: 'done', result });
    expect(JSON.parse(stdout)).toMatchObject(result);
  });

  it('ends with the reason when none was made', async () => {
    const error = new AppError('image-commit-failed', 'The disk of the container engine is full.').toBody();
    const { exitCode, stderr } = await commit('session commit work tools', { state: 'failed', error });
    expect(stderr).toContain('The disk of the container engine is full. [image-commit-failed]');
    expect(exitCode).not.toBe(0);
  });

  it('returns at once when nobody waits', async () => {
    const { stdout } = await commit('session commit --no-wait work tools', { state: 'failed' });
    expect(stdout).toBe('backend.ai/customized/u-1/tools is being made\n');
  });
});
