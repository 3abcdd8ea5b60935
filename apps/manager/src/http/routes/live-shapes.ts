import type { IdleCheckView, KernelStatisticsView, Metric } from '@backend.ai/contract';

/** What is measured and judged of running sessions, in the words of the official REST API. */

/** `idleChecks`: seconds that are left; −1 when they are over. */
export function idleChecks(checks: readonly IdleCheckView[]): Record<string, unknown> {
  return Object.fromEntries(
    checks
      .filter(({ verdict }) => verdict !== 'excluded')
      .map(({ checker, remainingMs, remainingKind, evidence }) => [
        checker,
        { remaining: secondsLeft(remainingMs), remaining_time_type: remainingKind, extra: evidence },
      ]),
  );
}

function secondsLeft(remainingMs: number | null): number | null {
  if (remainingMs === null) return null;
  return remainingMs <= 0 ? -1 : Math.round(remainingMs) / 1_000;
}

/** `live_stat` and `last_stat`: by metric, decimals as texts. Null: nothing has been measured. */
export function lastStat({ metrics, measuredAt }: KernelStatisticsView): Record<string, unknown> | null {
  if (measuredAt === null) return null;
  return Object.fromEntries(Object.entries(metrics).map(([name, metric]) => [name, metricTexts(metric)]));
}

/** Of the layout. */
const version = 2;

function metricTexts({ unit, current, capacity, ...stats }: Metric): Record<string, string | number | null> {
  return {
    current: decimal(current, 3),
    capacity: capacity === null ? null : decimal(capacity, 3),
    pct: decimal(capacity ? (current / capacity) * 100 : 0, 2),
    unit_hint: unit,
    ...Object.fromEntries(Object.entries(stats).map(([name, value]) => [`stats.${name}`, decimal(value, 3)])),
    version,
  };
}

/** Without trailing zeros. */
function decimal(value: number, places: number): string {
  return String(Number(value.toFixed(places)));
}
