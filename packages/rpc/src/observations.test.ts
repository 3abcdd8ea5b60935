import { observations, type RpcCall } from '@backend.ai/telemetry';
import { expect, it } from 'vitest';
import { failureOf, World } from './world.test.kit.ts';

it('each operation is observed with its outcome; what a peer made up has no name of its own', async () => {
  const calls: RpcCall[] = [];
  const unsubscribe = observations.rpcCall.subscribe((call) => calls.push(call));
  const world = await new World('in-process').start();
  try {
    const { api } = world.client();
    await api.echo.query(1);
    await failureOf(api.fail.query('no-agent'));
    const unknown = api as unknown as { madeUp: typeof api.echo };
    await failureOf(unknown.madeUp.query(1));
  } finally {
    await world.stop();
    unsubscribe();
  }
  expect(calls.map(({ path, outcome }) => [path, outcome])).toEqual([
    ['echo', 'ok'],
    ['fail', 'no-agent'],
    ['(none)', 'route-not-found'],
  ]);
  for (const { ms } of calls) expect(ms).toBeGreaterThanOrEqual(0);
});
