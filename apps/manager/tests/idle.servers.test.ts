import { RedisLiveValues, RedisServer } from '@backend.ai/coordination';
import { silentLogger } from '@backend.ai/telemetry';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { expect, it, onTestFinished } from 'vitest';
import { startRedis } from '../../../scripts/dev-servers/index.ts';
import { createWorld } from './world.ts';

it('nobody is ended because Redis was emptied: what was last used is unknown then, and is counted from the next look', async () => {
  // Of its own: what it holds for other tests is not thrown away.
  const redis = await startRedis({ directory: await tempDirectory(), password: 'secret' });
  onTestFinished(() => redis.stop());
  const server = await RedisServer.open({ url: redis.url, logger: silentLogger });
  onTestFinished(() => server.close());
  const liveValues = new RedisLiveValues(server, 'test');
  const world = await createWorld({ liveValues: () => liveValues });
  onTestFinished(() => world.close());
  await world.addAgent('agent-1', { slots: { cpu: '8', mem: String(8 * 1024 ** 3) } });
  const run = async (name: string): Promise<string> => {
    const { id } = await world.create({ name, resources: { cpu: '1', mem: '1g' } });
    await world.until(id, 'RUNNING');
    return id;
  };
  const [forgotten, unused] = [await run('forgotten'), await run('unused')];
  await world.database.db.execute(
    sql`update sessions set started_at = now() - interval '3 hours' where status = 'RUNNING'`,
  );
  const lastAccess = (id: string): string => `session:${id}:last-access`;
  await server.run((client) => client.flushall());
  expect(await liveValues.get(lastAccess(forgotten))).toBeNull();
  await liveValues.set(lastAccess(unused), String(Date.now() - 2 * 3_600_000));
  const settings = {
    enabled: 'network_timeout,utilization',
    'checkers/network_timeout/threshold': '1h',
    'checkers/utilization/initial-grace-period': '0',
    'checkers/utilization/resource-thresholds/cpu_util/average': '10',
  };
  for (const [name, value] of Object.entries(settings)) await world.configStore.put(`config/idle/${name}`, value);

  // The checkers end one whose last use is known, and have looked at the other one.
  expect((await world.until(unused, 'TERMINATED')).reason).toMatchObject({ code: 'idle-timeout' });
  await waitFor(() => liveValues.get(lastAccess(forgotten)), { what: 'counting begins anew' });
  await world.manager.services.settle();
  const { session } = world.manager.services.api;
  expect((await session.get({ session: forgotten }, world.ctx())).status).toBe('RUNNING');
  const { checks } = await session.idle({ session: forgotten }, world.ctx());
  expect(checks.map(({ checker, verdict }) => [checker, verdict])).toEqual([
    ['network_timeout', 'active'],
    ['session_lifetime', 'excluded'],
    ['utilization', 'unknown'],
  ]);
});
