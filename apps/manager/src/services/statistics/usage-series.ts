import type { Metrics } from '@backend.ai/contract';

/** What one kernel had used at one moment. Null: not known. */
export interface UsagePoint {
  readonly atMs: number;
  /** CPU time since the start, in milliseconds. */
  readonly cpuMs: number | null;
  readonly memoryBytes: number | null;
  /** For how long its programs had stood still until then. Absent: never. */
  readonly pausedMs?: number | undefined;
  /** By metric: of disks the bytes since the start, of networks those per second, of accelerators per cent. */
  readonly others?: Readonly<Record<string, number>> | undefined;
}

/** In order of time, one point per `stepMs` at most, so that its length is bounded whatever comes in. */
export type UsageSeries = readonly UsagePoint[];

export interface UsageAverage {
  /** 100 is one core. */
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
  /** How much of the window was observed; all of it: `windowMs`. */
  readonly coveredMs: number;
}

/** Told as what was counted since the start. */
const counted: ReadonlySet<string> = new Set(['io_read', 'io_write']);

/** What a point keeps besides processor and memory. */
export function otherValues(metrics: Metrics): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [name, { current, capacity }] of Object.entries(metrics)) {
    if (counted.has(name) || name === 'net_rx' || name === 'net_tx') values[name] = current;
    else if (/^[a-z0-9]+_(util|mem)$/.test(name) && name !== 'cpu_util' && capacity)
      values[name] = (current / capacity) * 100;
  }
  return values;
}

export const stepMs = 15_000;

/** How far before the window a point may lie that belongs to it; series have to be kept for this longer. */
export const marginMs = 2 * stepMs;

/**
 * By a clock that stands still with the programs of the kernel, as do all lengths of time here: while they are paused
 * they can use nothing, and no point is added.
 */
function ranAt({ atMs, pausedMs = 0 }: UsagePoint): number {
  return atMs - pausedMs;
}

/**
 * Of one of the other metrics in the last `windowMs` before the newest point: per second of what is counted, else the mean
 * weighted by time. Null: not known for all of it.
 */
export function averageOther(series: UsageSeries, name: string, windowMs: number): number | null {
  const points = within(series, windowMs);
  let [sum, overMs] = [0, 0];
  for (const [index, point] of points.slice(1).entries()) {
    const [before, now] = [points[index]?.others?.[name], point.others?.[name]];
    if (before === undefined || now === undefined) return null;
    const lapseMs = ranAt(point) - ranAt(points[index] as UsagePoint);
    sum += counted.has(name) ? Math.max(0, now - before) * 1_000 : ((before + now) / 2) * lapseMs;
    overMs += lapseMs;
  }
  return overMs === 0 ? null : sum / overMs;
}

/** From the last point before the window on, unless that is long before it: points lie steps apart, and all of it counts. */
function within(series: UsageSeries, windowMs: number): UsageSeries {
  const newest = series.at(-1);
  if (!newest) return [];
  const beginsAt = ranAt(newest) - windowMs;
  const before = series.findLastIndex((point) => ranAt(point) <= beginsAt);
  const isNear = before !== -1 && ranAt(series[before] as UsagePoint) >= beginsAt - marginMs;
  return series.slice(isNear ? before : before + 1);
}

/**
 * Drops what is older than `keepMs`. The newest point stands for its step until the next step begins; one that is not
 * newer than those before is left out.
 */
export function addPoint(series: UsageSeries, point: UsagePoint, keepMs: number): UsageSeries {
  const newest = series.at(-1);
  if (newest && ranAt(point) <= ranAt(newest)) return series;
  const kept = series.filter((each) => ranAt(each) >= ranAt(point) - keepMs);
  const [before, last] = kept.slice(-2);
  if (before && last && ranAt(last) - ranAt(before) < stepMs) kept.pop();
  return [...kept, point];
}

/**
 * What was used in the last `windowMs` before the newest point. CPU comes from the counter, so that it is exact whatever
 * the distances of the points; a counter that goes back starts anew. Memory is the mean weighted by time.
 */
export function averageOf(series: UsageSeries, windowMs: number): UsageAverage {
  const newest = series.at(-1);
  if (!newest) return { cpuPercent: null, memoryBytes: null, coveredMs: 0 };
  const points = within(series, windowMs);
  let [cpuMs, cpuOverMs, byteMs, memoryOverMs] = [0, 0, 0, 0];
  for (const [index, point] of points.slice(1).entries()) {
    const before = points[index] as UsagePoint;
    const lapseMs = ranAt(point) - ranAt(before);
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
    coveredMs: Math.min(windowMs, ranAt(newest) - ranAt(points[0] ?? newest)),
  };
}
