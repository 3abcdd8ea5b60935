/** Whether a session is of use to somebody, as the manager judges it. */

export const idleCheckers = ['network_timeout', 'session_lifetime', 'utilization'] as const;
export type IdleChecker = (typeof idleCheckers)[number];

/**
 * `expired`: the session ends for it. `active`: it may end for it later. `unknown`: something has not been measured or
 * seen, which never counts against a session. `excluded`: this checker does not concern it.
 */
export type IdleVerdict = 'excluded' | 'unknown' | 'active' | 'expired';

export interface IdleCheckView {
  readonly checker: IdleChecker;
  readonly verdict: IdleVerdict;
  /** One sentence: why. */
  readonly explanation: string;
  /** Until it ends the session if nothing changes; not above zero when it has expired; null: it does not, or is not known. */
  readonly remainingMs: number | null;
  /** `grace_period`: until the checker begins to judge. */
  readonly remainingKind: 'grace_period' | 'expire_after';
  /** What the verdict was made of. */
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** What would become of the session if it were judged now. Nothing happens by asking. */
export interface SessionIdleView {
  readonly sessionId: string;
  readonly name: string;
  readonly checks: IdleCheckView[];
}
