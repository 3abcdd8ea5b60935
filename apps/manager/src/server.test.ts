import { Metrics } from '@backend.ai/runtime/metrics';
import { expect, it } from 'vitest';
import { clusterGauges } from './server.ts';

it('the cluster is asked once, and anew, each time that its metrics are read', async () => {
  let asked = 0;
  const metrics = new Metrics('manager');
  const gauges = clusterGauges({
    counts: async () => {
      asked += 1;
      return { sessions: { RUNNING: asked }, agents: { ALIVE: 2 } };
    },
    leaderEpoch: () => undefined,
  });
  for (const gauge of gauges) metrics.addGauge(gauge);
  const { text } = await metrics.render();
  expect(text).toContain('backend_sessions{status="RUNNING",component="manager"} 1');
  expect(text).toContain('backend_agents{status="ALIVE",component="manager"} 2');
  expect(text).toContain('backend_leader{component="manager"} 0');
  expect((await metrics.render()).text).toContain('backend_sessions{status="RUNNING",component="manager"} 2');
  expect(asked).toBe(2);
  metrics.close();
});
