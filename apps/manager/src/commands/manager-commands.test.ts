import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Outcome, runManagerCommand } from './commands.test.kit.ts';

let folder: string;
beforeEach(async () => {
  folder = await tempDirectory();
});
const mgr = (...args: string[]): Promise<Outcome> => runManagerCommand(folder, ...args);

describe('mgr config show', () => {
  it('tells what is derived from the machine and other settings, and marks it', async () => {
    const { stdout } = await mgr('config', 'show', '--set', 'manager.data-dir=/var/m');
    expect(stdout).toContain(`"m-${hostname()}"`);
    expect(stdout).toMatch(/^manager\.id +"m-.*" +derived$/m);
    expect(stdout).toMatch(/^keys\.identity-file +"\/var\/m\/keys\/manager\.pem" +derived$/m);
    expect(stdout).toMatch(/^keys\.installation-key-file +"\/var\/m\/keys\/installation\.key" +derived$/m);
    const set = await mgr('config', 'show', '--set', 'manager.id=m-1');
    expect(set.stdout).toMatch(/^manager\.id +"m-1" +--set manager\.id$/m);
  });
});

describe.each([
  ['clear-history', '--retention'],
  ['vacuum-sessions', '--older-than'],
])('mgr %s', (command, option) => {
  it.each(['1', '7', '0d', '0', '1x'])(`refuses ${option} %s before it looks at anything`, async (age) => {
    const { code, stderr } = await mgr(command, option, age);
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(`${option} takes a time .* not "${age}"`));
  });
});

describe('mgr peers token', () => {
  it.each(['foo', 'manager'])('of %s names the kinds that join with one', async (kind) => {
    const { code, stderr } = await mgr('peers', 'token', kind);
    expect(code).toBe(2);
    expect(stderr).toContain(`KIND is one of agent, storage-proxy, coordinator, worker, not "${kind}"`);
    expect(stderr.includes('managers join without a token')).toBe(kind === 'manager');
  });
});

it('mgr fixture list tells presets, and that there is an administrator besides', async () => {
  const { stdout } = await mgr('fixture', 'list');
  expect(stdout).toContain('small, medium, large');
  expect(stdout).toContain('user@backend.ai.local');
  expect(stdout).toContain('admin@backend.ai.local');
});

it('mgr restore says of a damaged file where whole ones come from', async () => {
  const file = join(folder, 'x.backup');
  writeFileSync(file, 'not a backup');
  const { code, stderr } = await mgr('restore', '--data-dir', join(folder, 'cluster'), file);
  expect(code).toBe(1);
  expect(stderr).toContain('is not a backup, or is damaged.');
  expect(stderr).toContain('mgr backup FILE');
});

describe('the help of mgr', () => {
  it.each([
    [['clear-history'], /--retention AGE .*default 1y/],
    [['vacuum-sessions'], /--older-than AGE .*default 7d/],
    [['vacuum-sessions'], /ag sweep/],
    [['peers', 'token'], /--ttl TIME .*default 1h/],
    [['health'], /--config FILE .*default configs\/manager\.toml/],
  ])('%s tells what is taken unless it is said', async (words, told) => {
    // With another option beside it, as the plain form is made at the build.
    expect((await mgr(...words, '--json', '--help')).stdout).toMatch(told);
  });
});
