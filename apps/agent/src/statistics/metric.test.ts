import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { follow, type Measurement, type MetricHistory, type MetricKind } from './metric.ts';

const measurement = (kind: MetricKind, value: number, capacity: number | null = null): Measurement => ({
  ...{ kind, unit: 'bytes', value, capacity },
});
const after = (kind: MetricKind, ...seen: ReadonlyArray<readonly [atMs: number, value: number]>) =>
  seen.reduce<MetricHistory | undefined>(
    (before, [atMs, value]) => follow(before, measurement(kind, value), atMs),
    undefined,
  )?.metric;

describe('a metric', () => {
  it('of a gauge is what was measured last, with least, most and mean of all', () => {
    expect(after('gauge', [0, 10], [1_000, 40], [3_000, 10])).toEqual({
      ...{ unit: 'bytes', current: 10, capacity: null, min: 10, max: 40, sum: 60, avg: 20, diff: -30, rate: -15 },
    });
  });

  it('of a rate begins with the second measurement, and is the growth per second', () => {
    expect(after('rate', [0, 500])).toBeUndefined();
    expect(after('rate', [0, 500], [2_000, 2_500], [3_000, 2_600])).toMatchObject({
      ...{ current: 100, min: 100, max: 1_000, avg: 550, diff: 100, rate: 100 },
    });
  });

  it('of a growth is out of the time since the measurement before', () => {
    expect(after('growth', [0, 500], [2_000, 1_500])).toMatchObject({ current: 1_000, capacity: 2_000 });
  });

  it('of a counter that goes back has no growth, and grows again from there', () => {
    expect(after('counter', [0, 500], [1_000, 100])).toMatchObject({ current: 100, diff: 0, rate: 0 });
    expect(after('rate', [0, 500], [1_000, 100])).toMatchObject({ current: 0, diff: 0, rate: 0 });
    expect(after('rate', [0, 500], [1_000, 100], [2_000, 150])).toMatchObject({ current: 50 });
  });

  it('has no rate where no time has passed', () => {
    expect(after('counter', [5, 1], [5, 9])).toMatchObject({ diff: 8, rate: 0 });
  });

  const values = fc.array(fc.tuple(fc.integer({ min: 0, max: 10_000 }), fc.integer({ min: 0, max: 1e9 })), {
    minLength: 2,
    maxLength: 30,
  });
  const kinds = fc.constantFrom<MetricKind>('gauge', 'counter', 'rate', 'growth');

  it('lies between its least and its most, and so does its mean, whatever is measured', () => {
    fc.assert(
      fc.property(kinds, values, (kind, steps) => {
        let atMs = 0;
        const seen = steps.map(([afterMs, value]) => {
          atMs += afterMs;
          return [atMs, value] as const;
        });
        const metric = after(kind, ...seen);
        if (!metric) return;
        const { current, min, max, avg, sum } = metric;
        const slack = Math.abs(max) * 1e-9;
        expect(min <= current && current <= max).toBe(true);
        expect(min - slack <= avg && avg <= max + slack).toBe(true);
        const count = kind === 'rate' || kind === 'growth' ? seen.length - 1 : seen.length;
        expect(Math.abs(sum - avg * count)).toBeLessThanOrEqual(Math.abs(sum) * 1e-9);
        for (const value of Object.values(metric)) if (typeof value === 'number') expect(value).not.toBeNaN();
      }),
    );
  });

  it('of what only counts never falls, and its growths are together the growth of the whole', () => {
    fc.assert(
      fc.property(values, (steps) => {
        let [atMs, value, grown] = [0, 0, 0];
        let history: MetricHistory | undefined;
        for (const [afterMs, more] of steps) {
          value += more;
          atMs += afterMs;
          history = follow(history, measurement('counter', value), atMs);
          grown += history.metric?.diff ?? 0;
          expect(history.metric?.diff).toBeGreaterThanOrEqual(0);
        }
        expect(grown).toBe(value - (steps[0]?.[1] ?? 0));
      }),
    );
  });
});
