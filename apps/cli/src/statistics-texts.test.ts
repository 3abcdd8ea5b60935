import type { SessionStatisticsView } from '@backend.ai/client';
import { expect, it } from 'vitest';
import { shareText, sparkline, useText } from './statistics-texts.ts';

const kernel = (percent: number | null, bytes: number | null, measuredAt: string | null = '2030') =>
  ({ measuredAt, cpu: { percent }, memory: { bytes } }) as unknown as SessionStatisticsView['kernels'][number];
const use = (...kernels: SessionStatisticsView['kernels']) =>
  useText({ sessionId: 's', name: 's', windowMs: 1, kernels });

it('tells what all kernels use together, and nothing of what was not measured', () => {
  expect(use(kernel(50, 1024 ** 2), kernel(75, 1024 ** 2))).toBe('cpu 125.0% of a core, memory 2m');
  expect(use(kernel(null, 1024 ** 2))).toBe('cpu - of a core, memory 1m');
  expect(use(kernel(null, null, null))).toBeNull();
});

it('tells a metric in its unit', () => {
  const metric = (unit: string, current: number, capacity: number | null = null) =>
    shareText({ unit, current, capacity, min: 0, max: 0, sum: 0, avg: 0, diff: 0, rate: 0 });
  expect(metric('bps', 2_048)).toBe('2k/s');
  expect(metric('bytes', 1024 ** 2, 1024 ** 3)).toBe('1m of 1g');
  expect(metric('Celsius', 41.25)).toBe('41.3 Celsius');
  expect(shareText(undefined)).toBe('-');
});

it('draws the newest values as bars under the highest of them, and what is not known as a gap', () => {
  expect(sparkline([null, 0, 50, null, 100])).toBe('▁▅ █');
  expect(sparkline([0, 0])).toBe('▁▁');
  expect(sparkline([])).toBe('');
  expect(sparkline(Array.from({ length: 100 }, (_, n) => n))).toHaveLength(20);
});
