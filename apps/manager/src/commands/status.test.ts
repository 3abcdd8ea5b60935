import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { AppError } from '@backend.ai/core';
import { AdminSocket, clusterLayout, type Dependency, DependencyChecks } from '@backend.ai/runtime';
import { silentLogger } from '@backend.ai/telemetry';
import { tempDirectory } from '@backend.ai/testing';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { type ClusterCounts, type ManagerFacts, managerHandlers } from '../admin.ts';
import type { Manager } from '../manager.ts';
import { storeNames } from '../store-names.ts';
import { type Outcome, runManagerCommand, runOneOf } from './commands.test.kit.ts';
import { ManagerStatusCommand } from './status.ts';

let folder: string;
beforeEach(async () => {
  folder = await tempDirectory();
});

const facts: ManagerFacts = {
  ...{ managerId: 'm-one', version: '1.2.3', startedAt: '2026-01-02T03:04:05.000Z', embedded: false },
  ...{ epoch: null, revoked: false, api: 'http://127.0.0.1:1', rpc: null, connectedAgents: ['i-one'] },
};

/** A manager of which there is the door only. */
async function managerWith(dependencies: readonly Dependency[], counts: () => Promise<ClusterCounts>): Promise<void> {
  const services = { facts: () => facts, counts } as Manager['services'];
  const handlers = managerHandlers({ services }, new DependencyChecks(dependencies));
  const socket = new AdminSocket(clusterLayout(folder).managerSocket, handlers, silentLogger);
  await socket.start();
  onTestFinished(() => socket.stop());
}

const status = (): Promise<Outcome> => runManagerCommand(folder, 'status', '--data-dir', folder);

const works = (name: string): Dependency => ({ name, check: async () => 'fine' });
const isAway = (name: string): Dependency => ({
  name,
  check: () => Promise.reject(new AppError('server-unreachable', `${name} is gone.`, { hint: `Start ${name}.` })),
});

it('a manager without its database says that it runs, what is away, and what to do', async () => {
  const dependencies = [isAway(storeNames.database), works(storeNames.etcd)];
  await managerWith(dependencies, () => Promise.reject(new AppError('server-unreachable', 'No database.')));
  const { code, stdout } = await status();
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Manager +m-one, version 1\.2\.3, process \d+$/m);
  expect(stdout).toMatch(/^Away +PostgreSQL: PostgreSQL is gone\.$/m);
  expect(stdout).toMatch(/^Agents +not known now$/m);
  expect(stdout).toMatch(/^Leads +no: it cannot without PostgreSQL$/m);
  expect(stdout).toMatch(/\nStart PostgreSQL\.\n$/);
});

it('nobody is said to lead instead of a manager that does not reach etcd', async () => {
  const counts = async (): Promise<ClusterCounts> => ({ agents: { ALIVE: 1 }, sessions: {} });
  await managerWith([works(storeNames.database), isAway(storeNames.etcd)], counts);
  const { stdout } = await status();
  expect(stdout).toMatch(/^Leads +no: it cannot without etcd$/m);
  expect(stdout).toMatch(/^Agents +1 ALIVE$/m);
});

it('another manager leads, or will in a moment, where everything works', async () => {
  await managerWith([works(storeNames.etcd)], async () => ({ agents: {}, sessions: {} }));
  const { stdout } = await status();
  expect(stdout).toMatch(/^Leads +no: another manager does, or is being elected$/m);
  expect(stdout).toMatch(/^Away +nothing$/m);
});

it('a manager that hangs is told apart from one that is not there', async () => {
  expect(await status()).toMatchObject({ code: 1, stderr: expect.stringContaining('No cluster runs') });
  const { managerSocket } = clusterLayout(folder);
  mkdirSync(dirname(managerSocket), { recursive: true });
  const silent = createServer((socket) => socket.resume());
  await new Promise<void>((resolve) => silent.listen(managerSocket, resolve));
  onTestFinished(() => void silent.close());
  class HastyCommand extends ManagerStatusCommand {
    protected override readonly patienceMs = 50;
  }
  const { code, stderr } = await runOneOf([HastyCommand], folder, 'status', '--data-dir', folder);
  expect(code).toBe(1);
  expect(stderr).toContain('The manager runs and says nothing for 0.05 s. [deadline-exceeded]');
  expect(stderr).not.toContain('No ');
});
