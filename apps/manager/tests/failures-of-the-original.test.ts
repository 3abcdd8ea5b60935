import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { checkPresetsSchema, createRegistrySchema } from '@backend.ai/contract';
import { AppError, newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

/**
 * What has gone wrong in the original, each as a test of ours, as far as no other test shows it already:
 * docs/dev/failures-of-the-original.md lists them all by number.
 */

let world: World;
let agent: FakeAgent;

beforeAll(async () => {
  world = await createWorld();
  agent = await world.addAgent('i-one');
});
afterAll(() => world.close());
afterEach(async () => {
  agent.behaviour = 'start';
  agent.destroyBehaviour = 'end';
  agent.holdEvents = false;
  if (!agent.isUp) await agent.start();
  await agent.flush();
  await inRequest(() => world.manager.services.endAllSessions('user-requested', 60_000));
  await waitFor(() => agent.kernels.size === 0, { what: 'an agent without kernels' });
  expect(await world.manager.services.verifyLedger()).toEqual([]);
});

const api = () => world.manager.services.api.session;
const inRequest = <T>(work: () => Promise<T>): Promise<T> => runWithRequest({ requestId: newId() }, work);
const destroy = (session: string, forced = false) => inRequest(() => api().destroy({ session, forced }, world.ctx()));
const openAllocations = async (): Promise<number> =>
  (await world.database.db.execute(sql`select 1 from resource_allocations where free_at is null`)).length;
const used = async () => (await world.manager.services.api.cluster.status(world.ctx())).used;
async function expectNothingHeld(): Promise<void> {
  expect(await openAllocations()).toBe(0);
  expect(Object.values(await used()).filter((amount) => amount !== '0')).toEqual([]);
}

describe('1: a group whose agents are all away', () => {
  it('has its sessions looked at all the same: they tell why they wait, are cancelled, and end by their deadline', async () => {
    const ending = await world.create();
    await world.until(ending.id, 'RUNNING');
    await agent.stop();
    await world.forgetHeartbeats(agent.id);
    const waiting = await world.create();
    await waitFor(
      async () => (await api().get({ session: waiting.id }, world.ctx())).reason.code === 'no-agent-alive',
      {
        what: 'the reason',
      },
    );
    expect((await destroy(waiting.id)).status).toBe('CANCELLED');
    expect((await destroy(ending.id)).status).toBe('TERMINATING');
    await world.expireDeadline(ending.id);
    expect((await world.until(ending.id, 'ERROR')).reason.code).toBe('terminate-timeout');
    expect(await openAllocations()).toBe(0);
  });
});

describe('2: the event that a start has gone on', () => {
  it('may be lost: the heartbeat tells it', async () => {
    agent.holdEvents = true;
    const { id } = await world.create();
    await waitFor(() => agent.kernels.size === 1, { what: 'the start' });
    agent.loseEvents();
    expect((await api().get({ session: id }, world.ctx())).status).toBe('PREPARING');
    agent.loseEvents();
    await world.until(id, 'RUNNING');
  });

  it('may be lost after the image was fetched, too', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    const kernelId = await waitFor(() => [...agent.kernels.keys()][0], { what: 'the order' });
    agent.tell(kernelId, { type: 'kernel-pulling' });
    await world.until(id, 'PULLING');
    agent.holdEvents = true;
    agent.finishStart(kernelId);
    agent.loseEvents();
    await world.until(id, 'RUNNING');
  });
});

describe('4: many sessions that end together', () => {
  it('leave no open allocation, wherever each of them was', async () => {
    const running = await world.create();
    await world.until(running.id, 'RUNNING');
    agent.behaviour = 'stall';
    const starting = await world.create();
    await world.until(starting.id, 'PREPARING');
    const waiting = await world.create({ resources: { cpu: '4' } });
    const all = [running, starting, waiting];
    await Promise.all(all.map(({ id }) => destroy(id)));
    for (const { id } of all)
      await inRequest(() => api().wait({ session: id, until: 'ended', timeoutMs: 60_000 }, world.ctx()));
    await expectNothingHeld();
  });

  it('leave none when all are cancelled at once while they wait and start', async () => {
    agent.behaviour = 'stall';
    const all = await Promise.all(Array.from({ length: 40 }, () => world.create()));
    await waitFor(() => agent.kernels.size === 4, { what: 'as many starts as there is room for' });
    const outcomes = await Promise.all(all.map(({ id }) => destroy(id)));
    expect(outcomes.filter(({ status }) => status === 'CANCELLED').length).toBeGreaterThanOrEqual(36);
    for (const { id } of all)
      await inRequest(() => api().wait({ session: id, until: 'ended', timeoutMs: 60_000 }, world.ctx()));
    await expectNothingHeld();
  });
});

describe('4: a session whose image cannot be fetched', () => {
  it.each(['image-not-found', 'image-pull-denied', 'image-pull-failed', 'disk-full'] as const)(
    'holds nothing after its start has failed with %s',
    async (code) => {
      agent.behaviour = 'stall';
      const { id } = await world.create();
      const kernelId = await waitFor(() => [...agent.kernels.keys()][0], { what: 'the order' });
      agent.tell(kernelId, { type: 'kernel-pulling' });
      await world.until(id, 'PULLING');
      expect(await openAllocations()).toBeGreaterThan(0);
      const error = new AppError(code, 'It could not be fetched.').toBody();
      agent.tell(kernelId, { type: 'kernel-start-failed', error, failedStep: 'ensure-image' });
      await inRequest(() => api().wait({ session: id, until: 'ended', timeoutMs: 60_000 }, world.ctx()));
      await expectNothingHeld();
    },
  );
});

describe('7: destroying again', () => {
  it('moves no session back, however often and late it is asked for', async () => {
    agent.destroyBehaviour = 'ignore';
    const { id } = await world.create();
    await world.until(id, 'RUNNING');
    await destroy(id);
    expect((await destroy(id)).status).toBe('TERMINATING');
    expect((await destroy(id, true)).status).toBe('TERMINATED');
    for (const forced of [false, true]) {
      await destroy(id, forced).catch((error) => expect(error).toMatchObject({ code: 'session-not-found' }));
    }
    await world.manager.services.settle();
    const history = await api().history({ session: id }, world.ctx());
    expect(history.map(({ to }) => to).slice(-2)).toEqual(['TERMINATING', 'TERMINATED']);
  });
});

describe('13: an agent with images of odd names', () => {
  it('registers, beats, and runs sessions of its other images', async () => {
    const { images } = agent.registration;
    const names = ['UPPER/Case:Täg@@sha256:', 'a b\tc', ':', '../..', 'x'.repeat(256), 'x'.repeat(257), ''];
    const odd = names.map((name) => ({ ...images[0]!, name, aliases: [name] }));
    const other = await world.addAgent('i-odd', {
      images: [...odd, { ...images[0]!, name: 'local/own:1', aliases: ['own'] }],
    });
    try {
      await other.heartbeat();
      const { id } = await world.create({ image: 'own' });
      await world.until(id, 'RUNNING');
      await destroy(id);
      await world.until(id, 'TERMINATED');
    } finally {
      await other.stop();
    }
  });
});

describe('21: what a session occupies', () => {
  it('is counted once, of each of its kernels', async () => {
    const { id } = await world.create({ clusterSize: 2, resources: { cpu: '1', mem: '256m' } });
    await world.until(id, 'RUNNING');
    expect(await used()).toEqual({ cpu: '2', mem: String(512 * 1024 ** 2) });
  });
});

describe('22: presets', () => {
  it('are checked against what is used: by no session that has ended, no private one, and no agent that is away', async () => {
    const other = await world.addAgent('i-ghost');
    const check = () =>
      world.manager.services.api.resourcePreset.check(
        checkPresetsSchema.parse({ resourceGroup: 'default' }),
        world.ctx(),
      );
    const usedCpu = async () => {
      const { keypair, resourceGroups } = await check();
      return [keypair.using.cpu, resourceGroups.default?.using.cpu];
    };
    const resources = { cpu: '2' };
    try {
      const [ordinary, hidden] = [
        await world.create({ resources, designatedAgents: ['i-ghost'] }),
        await world.create({ resources, designatedAgents: ['i-ghost'], type: 'system' }),
      ];
      for (const { id } of [ordinary, hidden]) await world.until(id, 'RUNNING');
      expect(await usedCpu()).toEqual(['2', '4']);
      await destroy(ordinary.id);
      await world.until(ordinary.id, 'TERMINATED');
      expect(await usedCpu()).toEqual(['0', '2']);
      await other.stop();
      await world.forgetHeartbeats(other.id);
      await waitFor(
        async () => {
          const { using, remaining } = (await check()).resourceGroups.default!;
          return using.cpu === '0' && remaining.cpu === '4';
        },
        { what: 'nothing counts but what the agent that is there has' },
      );
      await destroy(hidden.id, true);
    } finally {
      await other.stop();
    }
  });
});

describe('23: the reason of an earlier failure', () => {
  it('is gone when the session runs, and stays in its history', async () => {
    agent.behaviour = 'refuse';
    const { id } = await world.create();
    await waitFor(async () => (await api().get({ session: id }, world.ctx())).reason.code === 'agent-refused', {
      what: 'the refusal',
    });
    agent.behaviour = 'start';
    expect((await world.until(id, 'RUNNING')).reason).toMatchObject({ code: 'started', data: null });
    const history = await api().history({ session: id }, world.ctx());
    expect(history.map(({ reason }) => reason.code)).toContain('agent-refused');
  });
});

describe('25: a bigger session that waits', () => {
  const waitsBehind = (session: string) =>
    waitFor(async () => (await api().get({ session }, world.ctx())).reason.code === 'behind-head-of-line', {
      what: 'its reason',
    });

  it('is not overtaken by smaller ones of lower priority, nor of the same, which say what they wait behind', async () => {
    const holder = await world.create({ resources: { cpu: '2' } });
    await world.until(holder.id, 'RUNNING');
    const big = await world.create({ resources: { cpu: '4' } });
    const small = await world.create({ resources: { cpu: '1' }, priority: 0 });
    const equal = await world.create({ resources: { cpu: '1' } });
    for (const { id } of [small, equal]) await waitsBehind(id);
    await destroy(holder.id);
    await world.until(big.id, 'RUNNING');
    expect((await api().get({ session: small.id }, world.ctx())).status).toBe('PENDING');
  });
});

describe('30: a caller who goes away', () => {
  it('leaves nobody who waits on their behalf', async () => {
    agent.behaviour = 'stall';
    const { id } = await world.create();
    const gone = new AbortController();
    const watching = api()
      .watch({ session: id }, { ...world.ctx(), signal: gone.signal })
      [Symbol.asyncIterator]();
    await inRequest(() => watching.next());
    const next = inRequest(() => watching.next());
    gone.abort();
    expect((await next).done).toBe(true);
  });

  it('leaves nobody who waits for a task, which goes on', async () => {
    // It takes connections and never answers.
    const registry = createServer().listen(0, '127.0.0.1');
    await once(registry, 'listening');
    const { port } = registry.address() as AddressInfo;
    const { admin, task } = world.manager.services.api;
    await inRequest(() =>
      admin.registry.create(
        createRegistrySchema.parse({ name: 'silent', url: `http://127.0.0.1:${port}`, repositories: ['x'] }),
        world.ctx(),
      ),
    );
    const [started] = await inRequest(() => admin.image.rescan({ registry: 'silent' }, world.ctx()));
    const taskId = started?.taskId ?? '';
    const gone = new AbortController();
    const watching = task.watch({ taskId }, { ...world.ctx(), signal: gone.signal })[Symbol.asyncIterator]();
    expect((await watching.next()).value).toMatchObject({ state: 'running' });
    const next = watching.next();
    gone.abort();
    expect((await next).done).toBe(true);
    const [present] = await inRequest(() => admin.image.rescan({ registry: 'silent' }, world.ctx()));
    expect(present?.taskId).toBe(taskId);
    registry.close();
  });
});
