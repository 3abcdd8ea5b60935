import type { IdleCheckView, KernelStatisticsView } from '@backend.ai/contract';

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

/** `lastStat`: decimals as texts. Null: nothing has been measured. */
export function lastStat({ cpu, memory, measuredAt }: KernelStatisticsView): Record<string, unknown> | null {
  if (measuredAt === null) return null;
  return {
    ...(cpu.percent === null && cpu.averagePercent === null
      ? {}
      : {
          cpu_util: metric(cpu.percent, cpu.capacityPercent, 'percent', { 'stats.avg': cpu.averagePercent }),
        }),
    ...(cpu.usedMs === null ? {} : { cpu_used: metric(cpu.usedMs, null, 'msec', {}) }),
    ...(memory.bytes === null
      ? {}
      : {
          mem: metric(memory.bytes, memory.capacityBytes, 'bytes', {
            'stats.max': memory.peakBytes,
            'stats.avg': memory.averageBytes,
          }),
        }),
  };
}

function metric(
  current: number | null,
  capacity: number | null,
  unit: string,
  stats: Readonly<Record<string, number | null>>,
): Record<string, string | null> {
  const told = Object.entries(stats).flatMap(([name, value]) => (value === null ? [] : [[name, decimal(value, 3)]]));
  const pct = current === null || !capacity ? 0 : (current / capacity) * 100;
  return {
    current: decimal(current ?? 0, 3),
    capacity: capacity === null ? null : decimal(capacity, 3),
    pct: decimal(pct, 2),
    unit_hint: unit,
    ...Object.fromEntries(told),
  };
}

/** Without trailing zeros. */
function decimal(value: number, places: number): string {
  return String(Number(value.toFixed(places)));
}
