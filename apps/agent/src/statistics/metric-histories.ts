import type { Metrics } from '@backend.ai/contract';
import { follow, type Measurement, type MetricHistory, roundedMetric } from './metric.ts';

/** By name. Null: it cannot be measured now, and what was known last stays. */
export type Measurements = Readonly<Record<string, Measurement | null>>;

/**
 * For how long a number that cannot be measured any more stands for the present: one look may fail, and a plugin may take
 * five seconds for each.
 */
export function currentForMs(intervalMs: number): number {
  return 3 * Math.max(intervalMs, 5_000);
}

/** What was measured of one thing, a kernel or a machine, number by number. */
export class MetricHistories {
  readonly #histories = new Map<string, MetricHistory>();

  add(measurements: Measurements, atMs: number): void {
    for (const [name, measurement] of Object.entries(measurements)) {
      // A number that is none travels as null, and with it the whole message would be refused.
      if (!measurement || !isNumber(measurement)) continue;
      this.#histories.set(name, follow(this.#histories.get(name), measurement, atMs));
    }
  }

  /** @param sinceMs Numbers that were measured last before this are left out */
  metrics(sinceMs = Number.NEGATIVE_INFINITY): Metrics {
    const told = [...this.#histories].flatMap(([name, { atMs, metric }]) =>
      metric && atMs >= sinceMs ? [[name, roundedMetric(metric)]] : [],
    );
    return Object.fromEntries(told);
  }
}

function isNumber({ value, capacity }: Measurement): boolean {
  return Number.isFinite(value) && (capacity === null || Number.isFinite(capacity));
}
