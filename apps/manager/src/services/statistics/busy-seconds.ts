import type { Metrics } from '@backend.ai/contract';

/** A longer time between two measurements is one that nobody measured: only so much of it is counted. */
const mostMs = 60_000;

/**
 * How long devices of each accelerator were busy, one measurement later. Counted here, as an agent that starts anew has
 * forgotten what was before.
 */
export function withBusySeconds(
  before: Readonly<Record<string, number>> = {},
  metrics: Metrics,
  lapseMs: number,
): Record<string, number> {
  const seconds = Math.min(Math.max(0, lapseMs), mostMs) / 1_000;
  const now = Object.entries(metrics).flatMap(([name, { current }]) => {
    const device = /^(?!cpu_)(.+)_util$/.exec(name)?.[1];
    return device === undefined ? [] : [[device, (before[device] ?? 0) + (current / 100) * seconds] as const];
  });
  return { ...before, ...Object.fromEntries(now) };
}
