import { AppError, hasCode } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';

import { expect, inject, it } from 'vitest';
import { openCoordination } from '../src/index.ts';

const { redisUrl, etcdUrl } = inject('servers');
const options = {
  redis: { url: redisUrl },
  etcd: { urls: etcdUrl },
  namespace: 'test-door',
  source: 'test',
  epochs: { next: async () => 1, isCurrent: async () => true },
  logger: silentLogger,
  connectDeadlineMs: 2_000,
};

it('opens everything, asks each server by itself whether it answers, and closes', async () => {
  const coordination = await openCoordination(options);
  const { redis, etcd } = coordination.servers;
  expect(redisUrl).toContain(redis.address);
  expect(etcdUrl).toContain(etcd.address);
  for (const server of [redis, etcd]) expect(await server.ping()).toBeGreaterThan(0);
  await coordination.close();
  await coordination.close();
  for (const server of [redis, etcd]) await expect(server.ping()).rejects.toBeInstanceOf(AppError);
  await expect(coordination.eventBus.publish('fact', null)).rejects.toSatisfy((error) =>
    hasCode(error, 'shutting-down'),
  );
});

it('does not open when one server cannot be reached', async () => {
  await expect(openCoordination({ ...options, etcd: { urls: 'http://127.0.0.1:1' } })).rejects.toMatchObject({
    code: 'server-unreachable',
    message: expect.stringContaining('etcd at 127.0.0.1:1'),
  });
  await expect(openCoordination({ ...options, redis: { url: 'redis://127.0.0.1:1' } })).rejects.toMatchObject({
    code: 'server-unreachable',
    message: expect.stringContaining('Redis at 127.0.0.1:1'),
  });
});
