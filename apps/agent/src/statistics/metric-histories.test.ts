import { describe, expect, it } from 'vitest';
import type { Measurement } from './metric.ts';
import { MetricHistories } from './metric-histories.ts';

const gauge = (value: number, capacity: number | null = null): Measurement => ({
  kind: 'gauge',
  unit: 'bytes',
  value,
  capacity,
});

describe('what was measured of one thing', () => {
  it('leaves out numbers that are none, and keeps what was known before', () => {
    const histories = new MetricHistories();
    histories.add({ mem: gauge(5), odd: gauge(Number.NaN), endless: gauge(1, Number.POSITIVE_INFINITY) }, 0);
    histories.add({ mem: gauge(Number.POSITIVE_INFINITY) }, 1_000);
    expect(histories.metrics()).toMatchObject({ mem: { current: 5, max: 5 } });
    expect(Object.keys(histories.metrics())).toEqual(['mem']);
  });
});
