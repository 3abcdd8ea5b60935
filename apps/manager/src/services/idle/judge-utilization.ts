import type { IdleCheckView } from '@backend.ai/contract';
import { averageOf, averageOther, type UsageSeries } from '../statistics/usage-series.ts';
import { type IdleSettings, isTransferMetric } from './idle-settings.ts';
import { excluded, type JudgedKernel, type JudgedSession, leftAlone } from './judged-session.ts';

/**
 * One metric against its threshold, in per cent of what the session was given; of disks and networks in bytes per second.
 * Null: not known.
 */
interface MetricFinding {
  readonly average: number | null;
  readonly threshold: number;
  readonly isBelow: boolean | null;
}

/** Older measurements say nothing about now. */
const staleMs = 60_000;

/**
 * Whether a session used less than it should over the whole window, which is of time in which its programs ran: pausing
 * puts the verdict off and excuses nothing. Metrics of resources that it was not given do not
 * count, and what was not measured is not known, which is never the same as nothing.
 */
export function judgeUtilization(session: JudgedSession, settings: IdleSettings, nowMs: number): IdleCheckView {
  const checker = 'utilization';
  if (!settings.enabled.has(checker)) return excluded(checker, 'The checker is switched off.');
  const alone = leftAlone(session, settings, nowMs);
  if (alone) return excluded(checker, alone);
  const wanted = Object.entries(settings.thresholds).filter(([metric]) => isGiven(session.kernels, metric));
  if (wanted.length === 0) return excluded(checker, 'No threshold is set for anything that it was given.');

  const { windowMs, initialGraceMs, operator } = settings;
  const graceMs = session.startedAtMs + initialGraceMs - nowMs;
  if (graceMs > 0) {
    const explanation = 'It has just started and is not judged yet.';
    const evidence = { initialGraceMs };
    return { checker, verdict: 'active', explanation, remainingMs: graceMs, remainingKind: 'grace_period', evidence };
  }
  const findings = Object.fromEntries(
    wanted.map(([metric, threshold]) => [metric, find(session.kernels, metric, threshold, windowMs, nowMs)]),
  );
  const coveredMs = Math.min(...session.kernels.map(({ use }) => averageOf(use?.series ?? [], windowMs).coveredMs));
  const isIdle = combine(Object.values(findings), operator);
  const head = {
    checker,
    remainingKind: 'expire_after',
    evidence: { windowMs, coveredMs, operator, metrics: findings },
  } as const;
  if (isIdle === null) {
    const explanation = 'Not everything that counts has been measured, so it is not judged.';
    return { ...head, verdict: 'unknown', explanation, remainingMs: null };
  }
  if (!isIdle)
    return { ...head, verdict: 'active', explanation: 'It uses enough of what it was given.', remainingMs: null };
  const missingMs = windowMs - coveredMs;
  const explanation = `It uses less than it should (${operator} of ${Object.keys(findings).join(', ')}).`;
  return { ...head, verdict: missingMs > 0 ? 'active' : 'expired', explanation, remainingMs: Math.max(0, missingMs) };
}

/** With `and` one metric above decides, with `or` one below: the unknown ones then do not matter. */
function combine(findings: readonly MetricFinding[], operator: 'and' | 'or'): boolean | null {
  const decisive = operator === 'or';
  if (findings.some(({ isBelow }) => isBelow === decisive)) return decisive;
  return findings.some(({ isBelow }) => isBelow === null) ? null : !decisive;
}

function find(
  kernels: readonly JudgedKernel[],
  metric: string,
  threshold: number,
  windowMs: number,
  nowMs: number,
): MetricFinding {
  const averageIn = isTransferMetric(metric) ? bytesPerSecond : averagePercent;
  const average = averageIn(kernels, metric, windowMs, nowMs);
  return { average, threshold, isBelow: average === null ? null : average < threshold };
}

/** Of all kernels together. Null unless each of them that was given the resource was measured lately. */
function averagePercent(
  kernels: readonly JudgedKernel[],
  metric: string,
  windowMs: number,
  nowMs: number,
): number | null {
  let [used, given] = [0, 0];
  for (const { slots, use } of kernels) {
    if (amountOf(slots, metric) === 0) continue;
    if (!use || nowMs - use.atMs > staleMs) return null;
    const value = usedOf(use.series, metric, amountOf(slots, metric), windowMs);
    if (value === null) return null;
    used += value;
    given += amountOf(slots, metric);
  }
  return given === 0 ? null : (used / given) * 100;
}

/** In the unit of its slot. Metrics of accelerators are told in per cent of what the kernel was given. */
function usedOf(series: UsageSeries, metric: string, given: number, windowMs: number): number | null {
  const { cpuPercent, memoryBytes } = averageOf(series, windowMs);
  if (metric === 'cpu_util') return cpuPercent === null ? null : cpuPercent / 100;
  if (metric === 'mem') return memoryBytes;
  const percent = averageOther(series, metric, windowMs);
  return percent === null ? null : (percent / 100) * given;
}

/** Of all kernels together. Null unless each of them was measured lately. */
function bytesPerSecond(
  kernels: readonly JudgedKernel[],
  metric: string,
  windowMs: number,
  nowMs: number,
): number | null {
  let sum = 0;
  for (const { use } of kernels) {
    const average = use && nowMs - use.atMs <= staleMs ? averageOther(use.series, metric, windowMs) : null;
    if (average === null) return null;
    sum += average;
  }
  return sum;
}

/** Disks and networks are everybody's. */
function isGiven(kernels: readonly JudgedKernel[], metric: string): boolean {
  if (isTransferMetric(metric)) return true;
  return kernels.some(({ slots }) => amountOf(slots, metric) > 0);
}

/** `cpu_util` is about `cpu`, `cuda_mem` about every `cuda.…`. */
function amountOf(slots: Readonly<Record<string, number>>, metric: string): number {
  const device = metric.replace(/_.*$/, '');
  return Object.entries(slots)
    .filter(([name]) => name === device || name.startsWith(`${device}.`))
    .reduce((sum, [, amount]) => sum + amount, 0);
}
