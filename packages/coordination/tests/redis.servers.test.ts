import { describeEventBus, describeLiveValues } from '@backend.ai/coordination/testing';
import { newId } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import type {} from '@backend.ai/testing';
import { afterAll, beforeAll, inject } from 'vitest';
import { RedisEventBus, RedisLiveValues, RedisServer } from '../src/index.ts';

const logger = silentLogger;
const { redisUrl } = inject('servers');
let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.open({ url: redisUrl, logger });
});
afterAll(() => server.close());

describeEventBus('on Redis', async () => {
  const prefix = `test:${newId()}:`;
  const open = (): RedisEventBus =>
    new RedisEventBus({ server, prefix, source: 'test', logger, maxTries: 3, retry: { initialMs: 1, maxMs: 5 } });
  const [bus, peer] = [open(), open()];
  return { bus, peer, dispose: async () => void (await Promise.all([bus.close(), peer.close()])) };
});

describeLiveValues('on Redis', async () => {
  const values = new RedisLiveValues(server, `test:${newId()}:`);
  return { values, advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)), dispose: () => values.close() };
});
