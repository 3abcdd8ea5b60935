import type { Metric } from '@backend.ai/contract';

/**
 * How a number behaves. A gauge goes up and down; a counter only grows, and is shown as it is; of a rate the growth per
 * second is shown, of a growth what came since the measurement before, out of the milliseconds since then.
 */
export type MetricKind = 'gauge' | 'counter' | 'rate' | 'growth';

/** One number at one moment. */
export interface Measurement {
  readonly kind: MetricKind;
  readonly unit: string;
  readonly value: number;
  /** The most that `current` can be; null: there is no such thing. */
  readonly capacity: number | null;
}

/** All that was seen of one number. */
export interface MetricHistory {
  readonly value: number;
  readonly atMs: number;
  /** Of what is shown. */
  readonly count: number;
  /** Undefined: a rate or growth that was measured once. */
  readonly metric: Metric | undefined;
}

/**
 * One measurement more. `diff` and `rate` compare it with the one before: a counter that goes back has begun anew and
 * counts as no growth.
 * @param atMs On a clock that never goes back
 */
export function follow(before: MetricHistory | undefined, now: Measurement, atMs: number): MetricHistory {
  const { kind, unit, value, capacity } = now;
  const change = before ? value - before.value : 0;
  const elapsedMs = before ? atMs - before.atMs : 0;
  const diff = kind === 'gauge' ? change : Math.max(0, change);
  const rate = elapsedMs > 0 ? (diff / elapsedMs) * 1_000 : 0;
  const isGrowth = kind === 'rate' || kind === 'growth';
  if (isGrowth && !before) return { value, atMs, count: 0, metric: undefined };
  const current = kind === 'rate' ? rate : kind === 'growth' ? diff : value;
  const past = before?.metric;
  const count = (before?.count ?? 0) + 1;
  const sum = (past?.sum ?? 0) + current;
  const metric: Metric = {
    ...{ unit, current, capacity: kind === 'growth' ? elapsedMs : capacity },
    min: Math.min(current, past?.min ?? current),
    max: Math.max(current, past?.max ?? current),
    ...{ sum, avg: sum / count, diff, rate },
  };
  return { value, atMs, count, metric };
}

/** As it travels: three places are enough for people, and more would only be longer. */
export function roundedMetric(metric: Metric): Metric {
  const { unit, capacity } = metric;
  const [current, min, max] = [metric.current, metric.min, metric.max].map(round) as [number, number, number];
  const [sum, avg, diff, rate] = [metric.sum, metric.avg, metric.diff, metric.rate].map(round) as [
    ...[number, number, number, number],
  ];
  return { unit, current, capacity: capacity === null ? null : round(capacity), min, max, sum, avg, diff, rate };
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
