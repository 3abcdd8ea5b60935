import { setTimeout as pause } from 'node:timers/promises';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { missingPackages } from '../scripts/dev-servers/index.ts';
import { TestInstallation } from './support/installation.ts';
import { recovers, rememberingSession, runsSessions } from './support/sessions.ts';

const withoutServers = missingPackages().length > 0;

/** In a file of its own, so that others use the machine meanwhile. */
describe.skipIf(withoutServers)('two managers and an agent', () => {
  let installation: TestInstallation;
  beforeAll(async () => {
    installation = await TestInstallation.prepare();
    // Every record that the second one writes meets a full disk.
    await Promise.all([installation.addManager(), installation.addManager({ more: { 'logging.file': '/dev/full' } })]);
    await installation.addAgent();
  }, 180_000);
  afterAll(() => installation?.stop(), 120_000);
  afterEach(async () => {
    expect(await installation.json(['mgr', 'verify'])).toMatchObject({ violations: [] });
  });

  it('serve what runs while etcd does not answer for a minute, and elect again within the promised time', async () => {
    const session = await rememberingSession(installation, installation.client(1));
    await installation.etcd.pause();
    try {
      // The outage is what has this length: longer than any lease, deadline or pause between attempts.
      const outage = pause(60_000);
      await waitFor(async () => (await installation.leader()) === undefined, {
        intervalMs: 200,
        what: 'nobody leads without etcd',
      });
      for (const manager of [1, 2] as const) {
        await session.remembers(manager);
        const service = installation.managers[manager - 1]!;
        // No proxy takes both of them out because of it; those who watch the servers are told.
        expect((await service.health('API')).status).toBe(200);
        expect((await service.health('Health')).status).toBe(503);
      }
      await outage;
      await session.remembers(1);
    } finally {
      await installation.etcd.resume();
    }
    await recovers(installation, session);
    await session.session.destroy();
  });

  it('go on where the disk of the log is full: such a manager leads, serves, and ends in order', async () => {
    const [first, second] = installation.managers;
    expect(await first!.end('SIGTERM')).toBe(0);
    await waitFor(async () => (await installation.managerStatus(2)).epoch !== null, { what: 'the second one leads' });
    await runsSessions(installation, 2);
    await first!.start();
    expect(await second!.end('SIGTERM')).toBe(0);
    await runsSessions(installation, 1);
  });
});
