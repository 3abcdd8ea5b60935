import {
  describeConfigStore,
  describeEventBus,
  describeLeases,
  describeLiveValues,
} from '@backend.ai/coordination/testing';
import { type DatabaseHandle, leases } from '@backend.ai/database';
import { silentLogger } from '@backend.ai/telemetry';
import { FakeClock, testDatabase } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EmbeddedConfigStore, EmbeddedLeases, InProcessEventBus, InProcessLiveValues } from '../src/index.ts';

let handle: DatabaseHandle;
beforeAll(async () => {
  handle = await testDatabase();
});
afterAll(() => handle.close());

describeEventBus('in process', async () => {
  const bus = new InProcessEventBus({
    source: 'test',
    logger: silentLogger,
    maxTries: 3,
    retry: { initialMs: 1, maxMs: 5 },
  });
  return { bus, peer: bus, dispose: () => bus.close() };
});

describeLiveValues('in process', async () => {
  const clock = new FakeClock();
  const values = new InProcessLiveValues(clock);
  return { values, advance: (ms) => clock.advance(ms), dispose: () => values.close() };
});

describeConfigStore('in the embedded database', async () => {
  const store = new EmbeddedConfigStore(handle.db, silentLogger);
  for (const { key } of await store.list('')) await store.delete(key);
  return { store, dispose: async () => {} };
});

describeLeases('in the embedded database', async () => {
  const clock = new FakeClock();
  await handle.db.delete(leases);
  return {
    leases: await EmbeddedLeases.open(handle.db, clock),
    advance: (ms) => clock.advance(ms),
    dispose: async () => {},
  };
});

it('gives a role at once after a restart, although the dead process had not released it', async () => {
  const before = await EmbeddedLeases.open(handle.db);
  const lease = await before.acquire('restarted', 'a', 60_000);
  const after = await EmbeddedLeases.open(handle.db);
  expect((await after.acquire('restarted', 'b', 60_000))!.epoch).toBe(lease!.epoch + 1);
  expect(await lease!.renew()).toBe(false);
});

it('sweeps expired live values', async () => {
  const clock = new FakeClock();
  const values = new InProcessLiveValues(clock);
  await values.set('key', 'value', 10);
  await values.increment('window', 10);
  await values.markPresent('set', 'member', 10);
  expect(clock.pendingTimers).toBe(1);
  await clock.advance(30_000);
  expect(clock.pendingTimers).toBe(0);
});
