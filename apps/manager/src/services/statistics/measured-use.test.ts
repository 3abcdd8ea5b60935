import type { Metric } from '@backend.ai/contract';
import { expect, it } from 'vitest';
import { measuredUse } from './measured-use.ts';

const metric = (current: number, more: Partial<Metric> = {}): Metric => ({
  ...{ unit: 'bytes', current, capacity: null, min: 0, max: current, sum: current, avg: current, diff: 0, rate: 0 },
  ...more,
});

it('what an ended kernel had used is what was counted, its peak of memory, and how long its devices were busy, also of before its agent started anew', () => {
  const metrics = {
    cpu_used: metric(12_500),
    cpu_util: metric(900),
    mem: metric(10, { max: 70 }),
    io_read: metric(5),
    cuda_mem: metric(3),
  };
  expect(measuredUse(metrics, { busySeconds: { cuda: 30 }, memoryPeakBytes: 60 })).toEqual({
    counted: { cpuSeconds: 12.5, readBytes: 5, cudaSeconds: 30 },
    memoryPeakBytes: 70,
  });
  expect(measuredUse(metrics, { memoryPeakBytes: 900 }).memoryPeakBytes).toBe(900);
  expect(measuredUse({}, undefined)).toEqual({ counted: {}, memoryPeakBytes: null });
});
