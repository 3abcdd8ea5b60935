import type { IdleChecker } from '@backend.ai/contract';
import { AppError, parseBinarySize } from '@backend.ai/core';

/** What a session uses at least unless it is idle: per cent of what it was given, of disks and networks bytes per second. */
export interface UtilizationThresholds {
  /** By metric: `cpu_util`, `mem`, `cuda_util`, `io_read` … */
  readonly [metric: string]: number;
}

export interface IdleSettings {
  /** Besides `session_lifetime`, which policies switch on. */
  readonly enabled: ReadonlySet<IdleChecker>;
  readonly networkTimeoutMs: number;
  readonly windowMs: number;
  readonly initialGraceMs: number;
  /** `and`: idle when all metrics are below their thresholds; `or`: when any is. */
  readonly operator: 'and' | 'or';
  readonly thresholds: UtilizationThresholds;
  /** New users are left alone for this long. */
  readonly userGraceMs: number;
}

export const idlePrefix = 'config/idle/';

const longestWindowMs = 3_600_000;
const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const thresholdKey = /^checkers\/utilization\/resource-thresholds\/([a-z][a-z0-9]*_?[a-z0-9]+)\/average$/;
const known: Readonly<Record<string, (text: string) => Partial<IdleSettings>>> = {
  enabled: (text) => ({ enabled: checkersOf(text) }),
  'checkers/network_timeout/threshold': (text) => ({ networkTimeoutMs: durationOf(text) }),
  'checkers/utilization/time-window': (text) => ({ windowMs: windowOf(text) }),
  'checkers/utilization/initial-grace-period': (text) => ({ initialGraceMs: durationOf(text) }),
  'checkers/utilization/thresholds-check-operator': (text) => ({ operator: operatorOf(text) }),
  'checkers/user_grace_period/user_initial_grace_period': (text) => ({ userGraceMs: durationOf(text) }),
};

/** Below `idlePrefix`, besides thresholds. */
export const idleSettingNames: readonly string[] = Object.keys(known);

export const defaultIdleSettings: IdleSettings = {
  enabled: new Set(),
  networkTimeoutMs: 600_000,
  windowMs: 600_000,
  initialGraceMs: 300_000,
  operator: 'and',
  thresholds: {},
  userGraceMs: 0,
};

/**
 * What one entry says, null for one that says nothing about idle checkers. Merged over the defaults by `settingsOf`.
 * @throws AppError `invalid-input`
 */
export function parseIdleSetting(key: string, text: string): Partial<IdleSettings> | null {
  const name = key.slice(idlePrefix.length);
  const metric = thresholdKey.exec(name)?.[1];
  if (metric !== undefined) {
    return { thresholds: { [metric]: isTransferMetric(metric) ? bytesOf(text) : percentOf(text) } };
  }
  return Object.hasOwn(known, name) ? (known[name]?.(text.trim()) ?? null) : null;
}

export function settingsOf(parts: Iterable<Partial<IdleSettings>>): IdleSettings {
  let settings = defaultIdleSettings;
  for (const part of parts) {
    settings = { ...settings, ...part, thresholds: { ...settings.thresholds, ...part.thresholds } };
  }
  return settings;
}

/** Told in bytes per second: nobody is given a share of it. */
export function isTransferMetric(metric: string): boolean {
  return /^(?:io_(?:read|write)|net_(?:rx|tx))$/.test(metric);
}

function checkersOf(text: string): ReadonlySet<IdleChecker> {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const wrong = names.find((name) => !(name in checkerNames));
  if (wrong !== undefined) throw invalid(`"${wrong}" is no idle checker (${Object.keys(checkerNames).join(', ')})`);
  return new Set(names.flatMap((name) => checkerNames[name] ?? []));
}

/** The grace period of users is a setting rather than a checker: naming it is harmless. */
const checkerNames: Readonly<Record<string, IdleChecker | undefined>> = {
  network_timeout: 'network_timeout',
  session_lifetime: 'session_lifetime',
  utilization: 'utilization',
  user_grace_period: undefined,
};

function durationOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?$/.exec(text);
  if (!match) throw invalid(`"${text}" is not a time such as 30s or 10m`);
  return Math.round(Number(match[1]) * (unitMs[match[2] ?? 's'] ?? 1_000));
}

function windowOf(text: string): number {
  const windowMs = durationOf(text);
  if (windowMs < 60_000 || windowMs > longestWindowMs) throw invalid('a window lies between 1m and 1h');
  return windowMs;
}

function operatorOf(text: string): 'and' | 'or' {
  if (text !== 'and' && text !== 'or') throw invalid(`"${text}" is neither "and" nor "or"`);
  return text;
}

function bytesOf(text: string): number {
  try {
    return Number(parseBinarySize(text.trim()));
  } catch {
    throw invalid(`"${text}" is not an amount per second such as 64k`);
  }
}

function percentOf(text: string): number {
  const percent = text.trim() === '' ? Number.NaN : Number(text);
  if (!(percent >= 0 && percent <= 100)) throw invalid(`"${text}" is not a percentage between 0 and 100`);
  return percent;
}

function invalid(problem: string): AppError {
  return new AppError('invalid-input', `A setting of the idle checkers is refused: ${problem}.`);
}
