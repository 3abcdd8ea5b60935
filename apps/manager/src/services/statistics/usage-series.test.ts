import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addPoint, averageOf, stepMs, type UsagePoint, type UsageSeries } from './usage-series.ts';

const at = (seconds: number, cpuMs: number | null, memoryBytes: number | null = null): UsagePoint => ({
  atMs: seconds * 1000,
  cpuMs,
  memoryBytes,
});
const seriesOf = (...points: UsagePoint[]): UsageSeries =>
  points.reduce<UsageSeries>((series, point) => addPoint(series, point, 3_600_000), []);

describe('a series of what a kernel used', () => {
  it('stays as long as the time it keeps, however often it is added to', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 60_000 }), { maxLength: 300 }), (lapses) => {
        let atMs = 0;
        let series: UsageSeries = [];
        for (const lapse of lapses) {
          atMs += lapse;
          series = addPoint(series, { atMs, cpuMs: atMs / 2, memoryBytes: 7 }, 600_000);
        }
        expect(series.length).toBeLessThanOrEqual(2 + 2 * Math.ceil(600_000 / stepMs));
        expect(series.every((point, index) => index === 0 || point.atMs > (series[index - 1]?.atMs ?? 0))).toBe(true);
        if (series.length > 1) {
          expect(averageOf(series, 600_000).cpuPercent).toBeCloseTo(50);
          expect(averageOf(series, 600_000).memoryBytes).toBeCloseTo(7);
        }
      }),
    );
  });

  it('leaves out a point that comes late', () => {
    const series = seriesOf(at(0, 0), at(20, 100), at(40, 200));
    expect(addPoint(series, at(30, 150), 3_600_000)).toEqual(series);
  });

  it('looks back over the window only', () => {
    const series = seriesOf(at(0, 0, 100), at(60, 60_000, 100), at(120, 60_000, 300), at(180, 60_000, 300));
    expect(averageOf(series, 60_000)).toEqual({ cpuPercent: 0, memoryBytes: 300, coveredMs: 60_000 });
    expect(averageOf(series, 180_000).cpuPercent).toBeCloseTo(33.333);
    expect(averageOf(series, 120_000).memoryBytes).toBe(250);
  });

  it('counts a counter that went back as started anew', () => {
    expect(averageOf(seriesOf(at(0, 5_000), at(20, 0), at(40, 10_000)), 60_000).cpuPercent).toBe(25);
  });

  it('knows nothing from one point, or from what was never measured', () => {
    expect(averageOf([], 60_000)).toEqual({ cpuPercent: null, memoryBytes: null, coveredMs: 0 });
    expect(averageOf(seriesOf(at(0, 1, 1)), 60_000)).toMatchObject({ cpuPercent: null, memoryBytes: null });
    expect(averageOf(seriesOf(at(0, null), at(20, null)), 60_000).cpuPercent).toBeNull();
  });
});
