import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SessionTemplateView } from '@backend.ai/client';
import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

let api: FakeApi;
let cwd: string;
let stored: SessionTemplateView[] = [];
let payloads: string[] = [];

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'templates-'));
  await writeFile(join(cwd, 'a.yaml'), 'kind: task_template\n');
  const view = (project: string): SessionTemplateView => ({
    id: 'id-1',
    name: 'training',
    userId: 'u-1',
    domain: 'default',
    project,
    createdAt: '2025-01-01T00:00:00.000Z',
    template: { kind: 'task_template' },
    session: { image: 'python', tag: 'nightly' },
  });
  api = await startFakeApi({
    services: {
      sessionTemplate: {
        list: async () => stored,
        get: async () => stored[0]!,
        create: async ({ payload, project }) => {
          payloads.push(payload);
          stored = [view(project)];
          return stored;
        },
        modify: async ({ payload }) => {
          payloads.push(payload);
          return stored[0]!;
        },
        delete: async () => {
          stored = [];
        },
      },
    },
  });
});
afterAll(async () => {
  await api[Symbol.asyncDispose]();
  await rm(cwd, { recursive: true });
});

const cli = (line: string): Promise<CliOutcome> => runCli(line.split(' '), { api, cwd });

it('templates are made of files, listed, printed, changed, used and deleted', async () => {
  expect((await cli('session-template list')).stdout).toBe('There are none.\n');
  expect((await cli('session-template create -f a.yaml -g research')).stdout).toBe('Template training: id-1\n');
  expect((await cli('session-template list')).stdout).toMatch(/training +python +research/);
  expect(JSON.parse((await cli('session-template get training')).stdout)).toEqual({ kind: 'task_template' });
  await cli('session-template update training -f a.yaml');
  expect(payloads).toEqual(['kind: task_template\n', 'kind: task_template\n']);
  const created = await cli('session create-from-template training -t my-session -r mem=1g --json');
  expect(created.json).toMatchObject({ created: true, session: { name: 'my-session', status: 'RUNNING' } });
  const refused = await cli('session create-from-template training -e 1=2');
  expect(refused.stderr).toMatch(/-e 1 Invalid key.*\n.*session create-from-template --help/);
  expect((await cli('session-template delete training')).exitCode).toBe(0);
  expect((await cli('session-template list --json')).json).toMatchObject({ templates: [] });
  payloads = [];
});
