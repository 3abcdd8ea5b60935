import { resourceGroupOptionsSchema } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let agent: FakeAgent;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
});
afterAll(() => world.close());
afterEach(async () => {
  agent.destroyBehaviour = 'end';
  agent.behaviour = 'start';
  agent.measurements = undefined;
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const api = () => world.manager.services.api.session;
const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const restart = (session: string) => inRequest(() => api().restart({ session }, world.ctx()));
const rename = (session: string, name: string) => inRequest(() => api().rename({ session, name }, world.ctx()));
const runs = async (options: Parameters<World['create']>[0] = {}) =>
  await world.until((await world.create(options)).id, 'RUNNING');

const measured = (kernelId: string, cpuMs: number, memoryPeakBytes: number) => ({
  ...{ kernelId, ageMs: 0, cpuMs, cpuPercent: 1, memoryBytes: 1, memoryPeakBytes },
});

describe('a restart', () => {
  it('starts the session anew under the same id and name, with new kernels, and tells the agent why they end', async () => {
    const before = await runs({ name: 'again' });
    expect((await restart('again')).status).toBe('RESTARTING');
    await waitFor(() => agent.createCalls.length > 1, { what: 'a second start' });
    const after = await world.until(before.id, 'RUNNING');
    expect(after).toMatchObject({ id: before.id, name: 'again', reason: { code: 'started', data: null } });
    expect(after.kernels[0]!.id).not.toBe(before.kernels[0]!.id);
    expect([...agent.kernels.keys()]).toEqual([after.kernels[0]!.id]);
    expect(agent.destroyCalls.at(-1)).toMatchObject({ kernelId: before.kernels[0]!.id });
    const history = await api().history({ session: before.id }, world.ctx());
    expect(history.map(({ to }) => to).slice(-6)).toEqual([
      'RESTARTING',
      'PENDING',
      'SCHEDULED',
      'PREPARING',
      'CREATING',
      'RUNNING',
    ]);
  });

  it('keeps what earlier attempts wrote and used, and drops the logs of the oldest', async () => {
    agent.output = 'first\n';
    const { id, kernels } = await runs({ name: 'attempts' });
    agent.measurements = [measured(kernels[0]!.id, 1_000, 9)];
    const stats = async () => (await api().stats({ session: id }, world.ctx())).kernels[0]!;
    await waitFor(async () => (await stats()).measuredAt !== null, { what: 'it is measured' });
    const again = async (output: string) => {
      agent.output = output;
      const { kernels: before } = await api().get({ session: id }, world.ctx());
      await restart(id);
      await waitFor(
        async () => {
          const { status, kernels: now } = await api().get({ session: id }, world.ctx());
          return status === 'RUNNING' && now[0]!.id !== before[0]!.id;
        },
        { what: 'it runs again' },
      );
    };
    const log = async (attempt?: number) =>
      (await api().logs({ session: id, ...(attempt === undefined ? {} : { attempt }) }, world.ctx())).logs;
    await again('first\n');
    agent.output = 'second\n';
    const present = (await api().get({ session: id }, world.ctx())).kernels[0]!.id;
    agent.measurements = [measured(present, 500, 20)];
    await waitFor(async () => (await stats()).measuredAt !== null, { what: 'it is measured again' });
    expect(await stats()).toMatchObject({
      cpu: { usedMs: 500 },
      overall: { attempts: 2, cpuUsedMs: 1_500, memoryPeakBytes: 20 },
    });
    expect([await log(), await log(2), await log(1)]).toEqual(['second\n', 'second\n', 'first\n']);
    const absent = { code: 'object-not-found', hint: 'Kept are those of the attempts 1; the present one is 2.' };
    await expect(log(3)).rejects.toMatchObject(absent);
    for (let attempt = 2; attempt < 7; attempt++) await again(`attempt ${attempt}\n`);
    await expect(log(1)).rejects.toMatchObject({ hint: expect.stringContaining('the attempts 2, 3, 4, 5, 6;') });
    expect(await log(6)).toBe('attempt 6\n');
    expect((await stats()).overall.attempts).toBe(7);
  });

  it('waits anew: what it may wait in its resource group counts from then', async () => {
    const { id } = await runs();
    const setPendingTimeout = (seconds: number) =>
      inRequest(() =>
        world.manager.services.api.admin.resourceGroup.modify(
          { name: 'default', options: resourceGroupOptionsSchema.parse({ pendingTimeout: seconds }) },
          world.ctx(),
        ),
      );
    await world.database.db.execute(
      sql`update sessions set created_at = now() - interval '2 hours', queued_at = now() - interval '2 hours'
        where id = ${id}::uuid`,
    );
    await setPendingTimeout(3_600);
    await restart(id);
    await waitFor(async () => (await api().get({ session: id }, world.ctx())).status !== 'RESTARTING', {
      what: 'the session waits again',
    });
    await world.until(id, 'RUNNING');
    await setPendingTimeout(0);
  });

  it('asked for twice is one', async () => {
    const { id } = await runs();
    agent.destroyBehaviour = 'ignore';
    await restart(id);
    expect((await restart(id)).status).toBe('RESTARTING');
    const history = await api().history({ session: id }, world.ctx());
    expect(history.filter(({ to }) => to === 'RESTARTING')).toHaveLength(1);
  });

  it('goes on under a manager that was started meanwhile', async () => {
    const { id } = await runs();
    agent.destroyBehaviour = 'ignore';
    await restart(id);
    await world.restartManager();
    agent.destroyBehaviour = 'end';
    await world.until(id, 'RUNNING');
    expect(await world.manager.services.verifyLedger()).toEqual([]);
  });

  it('whose kernels do not end in time ends the session', async () => {
    const { id } = await runs();
    agent.destroyBehaviour = 'ignore';
    await restart(id);
    await world.expireDeadline(id);
    expect((await world.until(id, 'TERMINATING')).reason.code).toBe('restart-timeout');
  });

  it('can be given up: a session that starts anew can be destroyed', async () => {
    const { id } = await runs();
    agent.destroyBehaviour = 'ignore';
    await restart(id);
    await inRequest(() => api().destroy({ session: id, forced: false }, world.ctx()));
    agent.destroyBehaviour = 'end';
    expect((await world.until(id, 'TERMINATED')).reason.code).toBe('user-requested');
  });

  it('is for running sessions', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    await world.until(id, 'PREPARING');
    await expect(restart(id)).rejects.toMatchObject({ code: 'session-not-running' });
  });
});

describe('a new name', () => {
  it('is the one that counts from then on, and frees the old one', async () => {
    const { id } = await runs({ name: 'old-name' });
    expect(await rename('old-name', 'new-name')).toMatchObject({ id, name: 'new-name', status: 'RUNNING' });
    expect((await api().get({ session: 'new-name' }, world.ctx())).id).toBe(id);
    await expect(api().get({ session: 'old-name' }, world.ctx())).rejects.toMatchObject({ code: 'session-not-found' });
    expect((await world.create({ name: 'old-name' })).id).not.toBe(id);
  });

  it('is refused when a live session has it, when it is no name, and when the session does not run', async () => {
    const { id } = await runs({ name: 'mine' });
    await runs({ name: 'taken' });
    await expect(rename(id, 'taken')).rejects.toMatchObject({ code: 'session-exists' });
    await expect(rename(id, 'x')).rejects.toMatchObject({ code: 'invalid-session-name' });
    agent.behaviour = 'stall';
    const { id: starting } = await world.create();
    await world.until(starting, 'PREPARING');
    await expect(rename(starting, 'other-name')).rejects.toMatchObject({ code: 'session-not-running' });
  });
});
