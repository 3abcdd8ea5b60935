import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DotfileOwner, DotfileView } from '@backend.ai/client';
import { type FakeApi, startFakeApi } from '@backend.ai/client/testing';
import { AppError } from '@backend.ai/core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CliOutcome, runCli } from '../../testing/run-cli.ts';

const files = new Map<string, DotfileView>();
let askedOf: DotfileOwner | undefined;
let script = '';
let api: FakeApi;
let cwd: string;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'dotfiles-'));
  await writeFile(join(cwd, 'local'), 'set nu\n');
  const find = (path: string): DotfileView => {
    const found = files.get(path);
    if (!found) throw new AppError('object-not-found', `There is no dotfile ${path}.`);
    return found;
  };
  const write = async (file: DotfileView): Promise<void> => void files.set(file.path, file);
  api = await startFakeApi({
    services: {
      dotfile: {
        list: async ({ owner }) => {
          askedOf = owner;
          return [...files.values()];
        },
        get: async ({ path }) => find(path),
        create: write,
        modify: write,
        delete: async ({ path }) => void files.delete(find(path).path),
        bootstrapScript: async () => ({ script }),
        setBootstrapScript: async (input) => {
          script = input.script;
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

it('dotfiles are made from local files, listed, printed, changed and deleted', async () => {
  expect((await cli('dotfile list')).stdout).toBe('There are none.\n');
  expect((await cli('dotfile create .vimrc -f local --perm 600')).exitCode).toBe(0);
  expect(files.get('.vimrc')).toEqual({ path: '.vimrc', permission: '600', content: 'set nu\n' });
  expect((await cli('dotfile list')).stdout).toMatch(/\.vimrc +600 +7\n/);
  expect((await cli('dotfile get .vimrc')).stdout).toBe('set nu\n');
  await cli('dotfile update .vimrc -f local');
  expect((await cli('dotfile get .vimrc --json')).json).toMatchObject({ dotfile: { permission: '600' } });
  await cli('dotfile update .vimrc -f local --perm 640');
  expect(files.get('.vimrc')).toMatchObject({ permission: '640' });
  expect((await cli('dotfile delete .vimrc')).exitCode).toBe(0);
  expect((await cli('dotfile get .vimrc')).exitCode).toBe(1);
  expect((await cli('dotfile create .vimrc -f absent')).exitCode).toBe(2);
});

it('the bootstrap script is set from a file, printed, and taken away', async () => {
  await cli('bootstrap-script set local');
  expect((await cli('bootstrap-script get')).stdout).toBe('set nu\n');
  await cli('bootstrap-script set --none');
  expect((await cli('bootstrap-script get --json')).json).toMatchObject({ script: '' });
  expect((await cli('bootstrap-script set')).exitCode).toBe(2);
});

it('with --owner things are done for the owner of another key pair', async () => {
  await cli('session create --owner AKIAOTHER python');
  await cli('dotfile list');
  expect(api.requests.at(-1)?.ownerAccessKey).toBeUndefined();
  expect(new Set(api.requests.map(({ ownerAccessKey }) => ownerAccessKey))).toEqual(new Set([undefined, 'AKIAOTHER']));
  expect(api.requests.find(({ line }) => line.includes('session.create'))?.ownerAccessKey).toBe('AKIAOTHER');
});

it('dotfiles are those of a domain or a group where one is named', async () => {
  await cli('dotfile list --domain ours');
  expect(askedOf).toEqual({ domain: 'ours' });
  await cli('dotfile list --group lab -d ours');
  expect(askedOf).toEqual({ project: 'lab', domain: 'ours' });
  await cli('dotfile create .shared -f local --group lab');
  expect(files.get('.shared')).toMatchObject({ owner: { project: 'lab' } });
  await cli('dotfile list');
  expect(askedOf).toBeUndefined();
});
