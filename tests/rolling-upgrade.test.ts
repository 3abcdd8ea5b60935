import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingPackages } from '../scripts/dev-servers/index.ts';
import { launcher } from './support/command.ts';
import { TestInstallation } from './support/installation.ts';
import { type Build, buildOf, previousCommit } from './support/previous-build.ts';
import { type RememberingSession, rememberingSession, runsSessions } from './support/sessions.ts';

const commit = await previousCommit();
if (commit === undefined) {
  console.warn('There is no commit before this one to upgrade from: the rolling upgrade is not tested.');
}
const impossible = commit === undefined || missingPackages().length > 0;

/** In the order of the operators' guide; each test is one step of the same upgrade. */
describe.skipIf(impossible)('an upgrade from the previous commit, a process at a time', () => {
  let previous: Build;
  let installation: TestInstallation;
  /** From before the upgrade. */
  let old: RememberingSession;

  beforeAll(async () => {
    previous = await buildOf(commit as string);
    installation = await TestInstallation.prepare(previous.folder);
    const oldLauncher = join(previous.folder, 'backend.ai');
    await installation.addManager({ launcher: oldLauncher });
    await installation.addAgent(oldLauncher);
    old = await rememberingSession(installation, installation.client(1));
  }, 300_000);
  afterAll(async () => {
    await installation?.stop();
    previous?.remove();
  }, 120_000);

  it('migrates the database while the old manager works on it', async () => {
    await installation.json(['mgr', 'dbschema', 'migrate']);
    expect(await installation.json(['mgr', 'dbschema', 'show'])).toMatchObject({ pending: [] });
    for (const { pid } of [...installation.managers, ...installation.agents]) {
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain(previous.folder);
    }
    await old.remembers(1);
    await runsSessions(installation, 1);
  });

  it('starts a new manager beside the old one: both serve old sessions and start new ones', async () => {
    await installation.addManager();
    for (const manager of [1, 2] as const) {
      await old.remembers(manager);
      await runsSessions(installation, manager);
    }
  });

  it('ends the old manager: its agent goes to the new one with the sessions', async () => {
    expect(await installation.managers[0]?.end('SIGTERM')).toBe(0);
    await waitFor(async () => (await installation.managerStatus(2)).connectedAgents.includes('i-1'), {
      intervalMs: 200,
      what: 'the old agent is connected to the new manager',
    });
    await waitFor(async () => (await installation.managerStatus(2)).epoch !== null);
    await old.remembers(2);
    await runsSessions(installation, 2);
  });

  it('replaces the agent: the new one adopts the kernel that the old one started', async () => {
    const kernels = (await installation.agentStatus(1)).kernels;
    const agent = installation.agents[0]!;
    expect(await agent.end('SIGTERM')).toBe(0);
    agent.launcher = launcher;
    await agent.start();
    expect((await installation.agentStatus(1)).kernels).toEqual(kernels);
    await old.remembers(2);
    await runsSessions(installation, 2);
  });

  it('brings the first manager back as a new one, and leaves books that agree', async () => {
    const manager = installation.managers[0]!;
    manager.launcher = launcher;
    await manager.start();
    await old.remembers(1);
    await old.session.destroy();
    await runsSessions(installation, 1);
    expect(await installation.json(['mgr', 'verify'])).toMatchObject({ violations: [] });
  });
});
