import type { TaskView } from '@backend.ai/client';
import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { AppError } from '@backend.ai/core';
import { afterEach, describe, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
afterEach(() => api[Symbol.asyncDispose]());

type Services = NonNullable<NonNullable<Parameters<typeof startFakeApi>[0]>['services']>;

const report = { registry: 'main', images: 3, changed: 2, removed: 1, warned: 1, failed: 1 };
const failures = [{ image: 'team/odd:1', code: 'registry-answer-invalid', message: 'It is no image.' }];
const running: TaskView = {
  ...{ id: '7c1f5a4e-0b1c-4c52-8f35-9c3e1d2a5b6c', kind: 'rescan', state: 'running', current: 1, total: 2 },
  ...{ message: 'team/odd', result: null, error: null },
};
const taskIds = ['7c1f5a4e-0b1c-4c52-8f35-9c3e1d2a5b6c', '0b5a0c2e-6f51-4f0c-9d2b-1f5a1f2f3a4b'];

/** What was sent, by the name of the call. */
let sent: Record<string, unknown>;

async function cli(line: string, stdin = ''): Promise<CliOutcome> {
  sent = {};
  const called = (noun: string, verb: string, answer: unknown) => async (input: unknown) => {
    sent[`${noun}.${verb}`] = input;
    return answer;
  };
  const registry = { name: 'main', url: 'http://127.0.0.1:5000', username: 'u', hasPassword: true, lastScan: null };
  const services = {
    task: {
      async *watch({ taskId }: { taskId: string }) {
        yield running;
        if (taskId === taskIds[0]) yield { ...running, state: 'done', result: { ...report, failures } };
        else yield { ...running, state: 'failed', error: new AppError('registry-denied', 'No.').toBody() };
      },
    },
    admin: {
      image: {
        rescan: called(
          'image',
          'rescan',
          taskIds.map((taskId, at) => ({ registry: `r${at}`, taskId })),
        ),
        alias: called('image', 'alias', { alias: 'py', image: 'r/python:3', architecture: 'x86_64' }),
        purge: called('image', 'purge', {
          ...{ image: 'r/python:3', architecture: 'x86_64', removedFromRegistry: true },
          agents: [{ agent: 'i-1', outcome: 'failed', message: 'It is in use.' }],
        }),
      },
      registry: {
        list: async () => [{ ...registry, isActive: true, images: 3, scannedAt: null, repositories: [] }],
        create: called('registry', 'create', registry),
        modify: called('registry', 'modify', registry),
      },
    },
  } as unknown as Services;
  api = await startFakeApi({ role: 'superadmin', services });
  return await runCli(line.split(' '), { api, cwd: '/', stdin });
}

describe('image commands', () => {
  it('rescan follows each registry to its end: one that fails is told of, and the others count', async () => {
    const { exitCode, stdout, stderr } = await cli('image rescan');
    expect(stdout).toBe('r0: 3 images, 2 changed, 1 removed, 1 with warnings, 1 failed\n');
    expect(stderr).toContain('team/odd:1: It is no image. [registry-answer-invalid]');
    expect(stderr).toContain('r1: No. [registry-denied]');
    expect(exitCode).toBe(1);
  });

  it('rescan has its reports as JSON, under the official names, too', async () => {
    const { json } = await cli('admin image rescan -r main --json');
    expect(sent['image.rescan']).toEqual({ registry: 'main' });
    expect(json.scans).toMatchObject([
      { registry: 'r0', state: 'done', report },
      { registry: 'r1', state: 'failed', error: { code: 'registry-denied' } },
    ]);
  });

  it('alias names the architecture when asked to', async () => {
    const { stdout } = await cli('image alias py python:3 --arch x86_64');
    expect(sent['image.alias']).toEqual({ alias: 'py', image: 'python:3', architecture: 'x86_64' });
    expect(stdout).toBe('py means r/python:3 on x86_64.\n');
  });

  it('purge fails when an agent could not remove it', async () => {
    const { exitCode, stdout } = await cli('image purge python:3 --remove-from-registry --agent i-1,i-2');
    expect(sent['image.purge']).toMatchObject({ image: 'python:3', removeFromRegistry: true, agents: ['i-1', 'i-2'] });
    expect(stdout).toContain('i-1: failed (It is in use.)');
    expect(exitCode).toBe(1);
  });

  it('info shows what is known of an image', async () => {
    expect((await cli('image info python')).stdout).toMatch(/^name +local\/python:1$/m);
    await api[Symbol.asyncDispose]();
    expect((await cli('image info python --json')).json.image).toMatchObject({ name: 'local/python:1', warnings: [] });
  });
});

describe('registry commands', () => {
  it('read the password from standard input, never from arguments', async () => {
    const line = 'admin registry add main http://127.0.0.1:5000 --username u --password-stdin --repository a,b';
    await cli(line, 'the secret\n');
    expect(sent['registry.create']).toMatchObject({
      name: 'main',
      username: 'u',
      password: 'the secret',
      repositories: ['a', 'b'],
    });
    await api[Symbol.asyncDispose]();
    const { stderr } = await cli('admin registry add main http://127.0.0.1:5000 --username u');
    expect(stderr).toContain('--password-stdin');
    expect(sent).toEqual({});
  });

  it('send what was given and nothing else', async () => {
    await cli('admin registry update main --no-active --json');
    expect(sent['registry.modify']).toEqual({ name: 'main', isActive: false });
    await api[Symbol.asyncDispose]();
    await cli('admin registry update main --no-credentials');
    expect(sent['registry.modify']).toEqual({ name: 'main', username: null, password: null });
  });

  it('list registries', async () => {
    expect((await cli('admin registry list')).stdout).toContain('http://127.0.0.1:5000');
  });
});
