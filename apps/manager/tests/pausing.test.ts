import { AppError, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { apiOf } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

let world: World;
let agent: FakeAgent;
let session: string;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
});
afterAll(() => world.close());

beforeEach(async () => {
  agent.refusePause = undefined;
  session = (await world.create({ name: `pause-${Math.random().toString(36).slice(2, 8)}` })).id;
  await world.until(session, 'RUNNING');
});

// What a test leaves holds what the next one needs.
afterEach(async () => {
  await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
});

const view = () => apiOf(world, world.admin)((caller) => caller.session.get({ session }));
const pause = () => apiOf(world, world.admin)((caller) => caller.session.pause({ session }));
const resume = () => apiOf(world, world.admin)((caller) => caller.session.resume({ session }));
/** From when it counts as used, as if it had just been resumed. */
const resumedAt = async () => {
  const rows = await world.database.db.execute(sql`select resumed_at from sessions where id = ${session}::uuid`);
  return rows[0]!.resumed_at;
};
const kernelId = async () => (await view()).kernels[0]!.id;

describe('a paused session', () => {
  it('runs on with its resources, and says since when it stands still', async () => {
    const before = await view();
    const paused = await pause();
    expect(paused).toMatchObject({ status: 'RUNNING', pausedAt: expect.any(String) });
    expect(agent.paused.has(await kernelId())).toBe(true);
    expect((await pause()).pausedAt).toBe(paused.pausedAt);
    expect(await view()).toMatchObject({ status: 'RUNNING', startedAt: before.startedAt, requested: before.requested });
    expect(await resume()).toMatchObject({ status: 'RUNNING', pausedAt: null });
    expect(agent.paused.has(await kernelId())).toBe(false);
    expect(await resume()).toMatchObject({ pausedAt: null });
  });

  it('is paused by its agent as soon as that can be asked, and resumed by it as well', async () => {
    agent.refusePause = new AppError('engine-unavailable', 'The engine hangs.');
    expect(await pause()).toMatchObject({ pausedAt: expect.any(String) });
    const id = await kernelId();
    expect(agent.paused.has(id)).toBe(false);
    agent.refusePause = undefined;
    await waitFor(() => agent.paused.has(id), { what: 'the pause' });
    await resume();
    // As after a restart of the agent that found its kernel paused.
    agent.paused.add(id);
    await waitFor(() => !agent.paused.has(id), { what: 'going on' });
  });

  it.each(['unsupported-feature', 'route-not-found'] as const)('is none where its agent says %s', async (code) => {
    agent.refusePause = new AppError(code, 'There is no freezer.');
    await expect(pause()).rejects.toMatchObject({ code: 'unsupported-feature' });
    expect(await view()).toMatchObject({ status: 'RUNNING', pausedAt: null });
    expect(await resumedAt()).toBeNull();
  });

  it('is none any more when its agent says later that it cannot', async () => {
    agent.refusePause = new AppError('engine-unavailable', 'The engine hangs.');
    expect(await pause()).toMatchObject({ pausedAt: expect.any(String) });
    agent.refusePause = new AppError('unsupported-feature', 'There is no freezer.');
    await waitFor(async () => (await view()).pausedAt === null, { what: 'the wish taken back' });
    expect(await resumedAt()).toBeNull();
  });

  it('may be ended, and starts anew unpaused', async () => {
    await pause();
    await apiOf(world, world.admin)((caller) => caller.session.restart({ session }));
    const first = await kernelId();
    await waitFor(async () => (await view()).status === 'RUNNING' && (await kernelId()) !== first, {
      what: 'the restart',
    });
    expect(await view()).toMatchObject({ pausedAt: null });
    await pause();
    await apiOf(world, world.admin)((caller) => caller.session.destroy({ session }));
    await world.until(session, 'TERMINATED');
    await expect(pause()).rejects.toMatchObject({ code: 'session-not-running' });
    await expect(resume()).rejects.toMatchObject({ code: 'session-not-running' });
  });

  it('is not idle', async () => {
    await pause();
    const { checks } = await apiOf(world, world.admin)((caller) => caller.session.idle({ session }));
    expect(checks.filter(({ checker }) => checker !== 'session_lifetime').map(({ verdict }) => verdict)).toEqual([
      'excluded',
      'excluded',
    ]);
  });
});
