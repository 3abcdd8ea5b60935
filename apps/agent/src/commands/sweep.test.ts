import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type CliContext, runCommands } from '@backend.ai/cli-kit';
import { AdminSocket, clusterLayout } from '@backend.ai/runtime';
import { silentLogger } from '@backend.ai/telemetry';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { agentHandlers } from '../admin-handlers.ts';
import { commands } from './index.ts';

const strays = [
  { name: 'container kernel.python.1', since: '2026-01-02T03:04:05.000Z', due: true },
  { name: 'network sandbox', since: '2026-01-02T03:05:00.000Z', due: false },
];

/** An agent of an embedded cluster that has only its door, and strays. */
async function agentWithStrays() {
  const cwd = await tempDirectory();
  const asked: unknown[] = [];
  const agent = {
    status: () => {
      throw new Error('nobody asks for it');
    },
    sweepStrays: async (options: unknown) => {
      asked.push(options);
      return strays;
    },
  };
  const socket = new AdminSocket(
    clusterLayout(cwd).agentSocket,
    agentHandlers(() => agent),
    silentLogger,
  );
  await socket.start();
  onTestFinished(() => socket.stop());
  return { cwd, asked };
}

async function run(cwd: string, ...args: string[]): Promise<string> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const context: CliContext = {
    ...{ stdin: Readable.from([]), stdout, stderr, env: {}, colorDepth: 1, cwd, requestId: 'r-of-the-test' },
    onInterrupt: () => () => {},
  };
  expect(await runCommands(commands, ['ag', 'sweep', '--data-dir', cwd, ...args], context)).toBe(0);
  stdout.end();
  return await text(stdout);
}

it('ag sweep removes strays and tells which ones, and which are too young', async () => {
  const { cwd, asked } = await agentWithStrays();
  const lines = (await run(cwd)).split('\n');
  expect(lines.find((line) => line.includes('kernel.python.1'))).toMatch(/ removed *$/);
  expect(lines.find((line) => line.includes('network sandbox'))).toMatch(/ too young *$/);
  expect(asked).toEqual([{ dryRun: false }]);
});

it('ag sweep --dry-run only tells, to machines, too', async () => {
  const { cwd, asked } = await agentWithStrays();
  expect(await run(cwd, '--dry-run')).toContain('would be removed');
  expect(JSON.parse(await run(cwd, '--dry-run', '--json'))).toMatchObject({ dryRun: true, strays });
  expect(asked).toEqual([{ dryRun: true }, { dryRun: true }]);
});

it('an agent that is asked to sweep without a word on how removes nothing', async () => {
  const asked: unknown[] = [];
  const sweepStrays = async (options: unknown) => {
    asked.push(options);
    return [];
  };
  const agent = { sweepStrays, status: () => Promise.reject(new Error('nobody asks for it')) };
  await agentHandlers(() => agent as never).sweep?.({});
  expect(asked).toEqual([{ dryRun: true }]);
});
