import { collectLogs, FakeClock } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { MachineMeter } from './machine-meter.ts';
import type { Measurements } from './metric-histories.ts';

it('a machine tells nothing of accelerators that can be measured no more', async () => {
  const clock = new FakeClock();
  let told: Measurements = { cuda_util: { kind: 'gauge', unit: 'percent', value: 30, capacity: 100 } };
  const { logger } = collectLogs('agent');
  const meter = new MachineMeter({ folder: '/', devices: async () => told, intervalMs: 5_000, clock, logger });
  meter.start();
  onTestFinished(async () => {
    await Promise.all([meter.stop(), clock.advance(0)]);
  });
  await clock.advance(1);
  expect(meter.metrics()).toMatchObject({ cuda_util: { current: 30 } });
  told = {};
  await clock.advance(20_000);
  expect(meter.metrics()).not.toHaveProperty('cuda_util');
});
