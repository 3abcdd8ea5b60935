import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { AppError } from '@backend.ai/core';
import {
  type ConfigDefinition,
  type Dependency,
  defineConfig,
  loggingSection,
  port,
  secret,
} from '@backend.ai/runtime';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { renderHelp } from '../help-texts.ts';
import { runCommands } from '../run-commands.ts';
import type { Component } from './component.ts';
import { componentCommands } from './component-commands.ts';

const folder = mkdtempSync(join(tmpdir(), 'component-'));
afterAll(() => rmSync(folder, { recursive: true }));

const sections = {
  http: z
    .strictObject({
      port: port().default(8091).describe('Port to listen on'),
      password: secret().optional().describe('To log in with'),
    })
    .describe('Where users come in.'),
  logging: loggingSection('rpc'),
};
const configuration: ConfigDefinition<typeof sections> = defineConfig({
  component: 'keeper',
  command: 'keep',
  purpose: 'Keeps.',
  sections,
});

let dependencies: Dependency[];
let closed: number;
beforeEach(() => {
  dependencies = [{ name: 'PostgreSQL', check: async () => 'version 16.4' }];
  closed = 0;
});

const component: Component<typeof sections> = {
  title: 'Keeper',
  version: '1.2.3',
  configuration,
  derived: () => ({ 'logging.file': '/derived.log', 'http.port': 1 }),
  openDependencies: async () => ({
    dependencies,
    async close() {
      closed += 1;
    },
  }),
  start: () => Promise.reject(new AppError('port-in-use', 'Port 8091 of 127.0.0.1 is in use.')),
  stopDeadlineMs: () => 1_000,
};
const commands = componentCommands(component);

async function run(line: string, env: Record<string, string> = {}) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const context = {
    ...{ stdin: process.stdin, stdout, stderr, env, colorDepth: 1, cwd: folder, requestId: 'req-1' },
    onInterrupt: () => () => {},
  };
  const code = await runCommands(commands, line.split(' '), context);
  stdout.end();
  stderr.end();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}

function write(name: string, content: string): string {
  writeFileSync(join(folder, name), content, { mode: 0o600 });
  return name;
}

describe('health', () => {
  it('names program and configuration, and of each dependency whether it works and how long it took', async () => {
    const file = write('a.toml', '[http]\nport = 1');
    const { code, stdout, stderr } = await run(`keep health --config ${file}`);
    expect(stdout.split('\n')).toEqual([
      'Backend.AI Keeper 1.2.3',
      'Config: a.toml',
      expect.stringMatching(/^ {2}✓ PostgreSQL {2} +\d+\.\d ms {2}version 16\.4$/),
      'It works.',
      '',
    ]);
    expect([code, stderr, closed]).toEqual([0, '', 1]);
  });

  it('ends with 1 when something does not work, and says what and what to do', async () => {
    const refused = new AppError('server-unreachable', 'connect ECONNREFUSED\u001b[31m\nno', { hint: 'Start it.' });
    dependencies.push({ name: 'Redis', check: () => Promise.reject(refused) });
    const { code, stdout } = await run('keep health');
    expect(code).toBe(1);
    expect(stdout).toContain('Config: configs/keeper.toml (not there: defaults, environment and flags)');
    expect(stdout).toMatch(
      / {2}✗ Redis {7}.* ms {2}connect ECONNREFUSED \[31m no\n {6}Start it\.\n1 of 2 does not work: Redis\.\n$/,
    );
    expect(closed).toBe(1);
  });

  it('is one document with --json', async () => {
    const { code, stdout } = await run('keep health --json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ requestId: 'req-1', component: 'keeper', version: '1.2.3', configFile: 'configs/keeper.toml' },
      ...{ configFound: false, healthy: true, dependencies: [{ name: 'PostgreSQL', healthy: true }] },
    });
  });
});

it('records of start-server belong to the request of the command', async () => {
  const logFile = join(folder, 'keeper.log');
  const { code, stderr } = await run(`keep start-server --set logging.file=${logFile}`);
  expect(code).toBe(1);
  expect(stderr).toContain('Port 8091 of 127.0.0.1 is in use.');
  const records = readFileSync(logFile, 'utf8').trim().split('\n');
  expect(records.map((line) => JSON.parse(line))).toMatchObject([{ msg: 'service failed', request_id: 'req-1' }]);
});

describe('config', () => {
  it('show tells values and origins, secrets masked', async () => {
    const file = write('b.toml', '[http]\npassword = "hunter2"\n');
    const env = { BACKEND_KEEPER_LOGGING_FORMAT: 'text' };
    const { stdout } = await run(`keep config show --config ${file} --set http.port=7`, env);
    expect(stdout).toMatch(/^http\.port +7 +--set http\.port$/m);
    expect(stdout).toMatch(/^http\.password +"\*\*\*" +b\.toml:2:1$/m);
    expect(stdout).toMatch(/^logging\.format +"text" +\$BACKEND_KEEPER_LOGGING_FORMAT$/m);
    expect(stdout).toMatch(/^logging\.file +"\/derived\.log" +derived$/m);
    const json = await run(`keep config show --config ${file} --json`, env);
    expect(JSON.parse(json.stdout).settings).toContainEqual({
      key: 'http.port',
      value: 8091,
      origin: 'default',
      secret: false,
    });
    expect(stdout + json.stdout).not.toContain('hunter2');
  });

  it('check tells everything that is wrong and what to type next', async () => {
    const file = write('c.toml', '[http]\nprot = 1\nport = "x"\n');
    const { code, stdout, stderr } = await run(`keep config check --config ${file}`);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr.split('\n')).toEqual([
      'Error: The configuration of the keeper has 2 problems:',
      '  c.toml:2:1: unknown key http.prot; did you mean http.port?',
      '  c.toml:3:1: http.port takes an integer from 0 to 65535, not "x" [config-invalid]',
      '  Correct that, then check with: ./backend.ai keep config check --config c.toml',
      '  request id: req-1',
      '',
    ]);
    const json = await run(`keep config check --config ${file} --json`);
    expect(JSON.parse(json.stdout).error).toMatchObject({ code: 'config-invalid', data: { problems: [{}, {}] } });
  });

  it('check says so when all is right, and warns', async () => {
    const { code, stdout, stderr } = await run('keep config check', { BACKEND_KEEPER_HTTP_PROT: '1' });
    expect([code, stdout]).toEqual([
      0,
      'configs/keeper.toml is not there; defaults, environment and flags are right.\n',
    ]);
    expect(stderr).toContain('Warning: The environment variable BACKEND_KEEPER_HTTP_PROT names no setting');
  });
});

it('a wrong --set is wrong usage', async () => {
  const { code, stderr } = await run('keep config show --set http.port');
  expect(code).toBe(2);
  expect(stderr).toContain('--set takes NAME=VALUE, not "http.port".');
});

it('every command has a purpose, its options and an example in its help', () => {
  const help = renderHelp(commands, '1.2.3');
  for (const command of ['start-server', 'health', 'config show', 'config check']) {
    expect(help[`keep ${command}`]).toMatch(
      /^[A-Z].*keeper.*\n\nUsage: .*\n[\s\S]*--config[\s\S]*--set[\s\S]*Examples\n/,
    );
  }
});

it('help is the same text with options beside it', async () => {
  const help = renderHelp(commands, '');
  const beside = await run('keep config show --set http.port=1 --help');
  expect(beside).toEqual({ code: 0, stdout: help['keep config show'], stderr: '' });
  expect((await run('keep health --json -h')).stdout).toBe(help['keep health']);
});
