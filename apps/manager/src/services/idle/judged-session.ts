import type { IdleCheckView } from '@backend.ai/contract';
import type { SessionType } from '@backend.ai/core';
import type { KernelUse } from '../statistics/kernel-statistics.ts';
import type { IdleSettings } from './idle-settings.ts';

/** All that a verdict is made of. Moments are milliseconds since the epoch. */
export interface JudgedSession {
  readonly type: SessionType;
  readonly createdAtMs: number;
  /** When it came to run. */
  readonly startedAtMs: number;
  /** Its programs stand still, as its owner wishes. */
  readonly paused: boolean;
  /** When it went on after it was paused; undefined: it never was, since it runs. */
  readonly resumedAtMs: number | undefined;
  /** Undefined: its user has gone. */
  readonly userCreatedAtMs: number | undefined;
  /** Undefined: not known. */
  readonly lastAccessMs: number | undefined;
  /** Of the key pair's policy: undefined follows the settings, 0 is never. */
  readonly idleTimeoutMs: number | undefined;
  /** Of the key pair's policy: 0 is unlimited. */
  readonly maxLifetimeMs: number;
  readonly kernels: readonly JudgedKernel[];
}

export interface JudgedKernel {
  readonly slots: Readonly<Record<string, number>>;
  /** Undefined: nothing is known of what it uses. */
  readonly use: KernelUse | undefined;
}

export function excluded(checker: IdleCheckView['checker'], explanation: string): IdleCheckView {
  return {
    checker,
    verdict: 'excluded',
    explanation,
    remainingMs: null,
    remainingKind: 'expire_after',
    evidence: {},
  };
}

/** Why neither access nor use of this session is looked at; undefined when they are. */
export function leftAlone(session: JudgedSession, settings: IdleSettings, nowMs: number): string | undefined {
  if (session.type === 'inference' || session.type === 'system') return `${session.type} sessions are not checked.`;
  if (session.paused) return 'It is paused.';
  const graceEndMs = (session.userCreatedAtMs ?? 0) + settings.userGraceMs;
  return graceEndMs > nowMs ? 'Its user is new and left alone for now.' : undefined;
}
