import type { SessionStatisticsView } from '@backend.ai/client';
import { expect, it } from 'vitest';
import { useText } from './statistics-texts.ts';

const kernel = (percent: number | null, bytes: number | null, measuredAt: string | null = '2030') =>
  ({ measuredAt, cpu: { percent }, memory: { bytes } }) as unknown as SessionStatisticsView['kernels'][number];
const use = (...kernels: SessionStatisticsView['kernels']) =>
  useText({ sessionId: 's', name: 's', windowMs: 1, kernels });

it('tells what all kernels use together, and nothing of what was not measured', () => {
  expect(use(kernel(50, 1024 ** 2), kernel(75, 1024 ** 2))).toBe('cpu 125.0% of a core, memory 2m');
  expect(use(kernel(null, 1024 ** 2))).toBe('cpu - of a core, memory 1m');
  expect(use(kernel(null, null, null))).toBeNull();
});
