/** What one kernel had used at one moment. Null: not known. */
export interface UsagePoint {
  readonly atMs: number;
  /** CPU time since the start, in milliseconds. */
  readonly cpuMs: number | null;
  readonly memoryBytes: number | null;
}

/** In order of time, one point per `stepMs` at most, so that its length is bounded whatever comes in. */
export type UsageSeries = readonly UsagePoint[];

export interface UsageAverage {
  /** 100 is one core. */
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
  /** How much of the window was observed. */
  readonly coveredMs: number;
}

export const stepMs = 15_000;

/**
 * Drops what is older than `keepMs`. The newest point stands for its step until the next step begins; one that is not
 * newer than those before is left out.
 */
export function addPoint(series: UsageSeries, point: UsagePoint, keepMs: number): UsageSeries {
  if (point.atMs <= (series.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY)) return series;
  const kept = series.filter(({ atMs }) => atMs >= point.atMs - keepMs);
  const [before, last] = kept.slice(-2);
  if (before && last && last.atMs - before.atMs < stepMs) kept.pop();
  return [...kept, point];
}

/**
 * What was used in the last `windowMs` before the newest point. CPU comes from the counter, so that it is exact whatever
 * the distances of the points; a counter that goes back starts anew. Memory is the mean weighted by time.
 */
export function averageOf(series: UsageSeries, windowMs: number): UsageAverage {
  const newest = series.at(-1);
  if (!newest) return { cpuPercent: null, memoryBytes: null, coveredMs: 0 };
  const points = series.filter(({ atMs }) => atMs >= newest.atMs - windowMs);
  let [cpuMs, cpuOverMs, byteMs, memoryOverMs] = [0, 0, 0, 0];
  for (const [index, point] of points.slice(1).entries()) {
    const before = points[index] as UsagePoint;
    const lapseMs = point.atMs - before.atMs;
    if (point.cpuMs !== null && before.cpuMs !== null) {
      cpuMs += Math.max(0, point.cpuMs - before.cpuMs);
      cpuOverMs += lapseMs;
    }
    if (point.memoryBytes !== null && before.memoryBytes !== null) {
      byteMs += ((point.memoryBytes + before.memoryBytes) / 2) * lapseMs;
      memoryOverMs += lapseMs;
    }
  }
  return {
    cpuPercent: cpuOverMs === 0 ? null : (cpuMs / cpuOverMs) * 100,
    memoryBytes: memoryOverMs === 0 ? null : byteMs / memoryOverMs,
    coveredMs: newest.atMs - (points[0]?.atMs ?? newest.atMs),
  };
}
