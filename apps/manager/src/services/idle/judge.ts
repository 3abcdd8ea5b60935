import type { IdleCheckView } from '@backend.ai/contract';
import type { IdleSettings } from './idle-settings.ts';
import { judgeUtilization } from './judge-utilization.ts';
import { excluded, type JudgedSession, leftAlone } from './judged-session.ts';

/** Says of a session that runs what each checker finds. Pure: the sweep and the dry run ask the same. */
export function judgeIdleness(session: JudgedSession, settings: IdleSettings, nowMs: number): IdleCheckView[] {
  return [
    judgeNetworkTimeout(session, settings, nowMs),
    judgeLifetime(session, nowMs),
    judgeUtilization(session, settings, nowMs),
  ];
}

function judgeNetworkTimeout(session: JudgedSession, settings: IdleSettings, nowMs: number): IdleCheckView {
  const checker = 'network_timeout';
  if (!settings.enabled.has(checker)) return excluded(checker, 'The checker is switched off.');
  if (session.type === 'batch') return excluded(checker, 'Nobody needs to look at a batch session.');
  const alone = leftAlone(session, settings, nowMs);
  if (alone) return excluded(checker, alone);
  const timeoutMs = session.idleTimeoutMs ?? settings.networkTimeoutMs;
  if (timeoutMs === 0) return excluded(checker, 'It has no time limit for being unused.');
  const limit = { timeoutMs, setBy: session.idleTimeoutMs === undefined ? 'settings' : 'keypair-policy' };
  const head = { checker, remainingKind: 'expire_after' } as const;
  const { lastAccessMs } = session;
  if (lastAccessMs === undefined) {
    const explanation = 'No access has been seen yet; counting begins with the next look.';
    return { ...head, verdict: 'unknown', explanation, remainingMs: null, evidence: limit };
  }
  // What was done before it started anew, or was paused, says nothing about the time that it has run since.
  const beganMs = Math.max(session.startedAtMs, session.resumedAtMs ?? 0);
  const isUsed = lastAccessMs >= beganMs;
  const idleMs = Math.max(0, nowMs - Math.max(lastAccessMs, beganMs));
  const remainingMs = timeoutMs - idleMs;
  const evidence = { ...limit, lastAccess: new Date(lastAccessMs).toISOString(), idleMs };
  const verdict = remainingMs <= 0 ? 'expired' : 'active';
  const since = isUsed ? 'was last used' : session.resumedAtMs === beganMs ? 'was resumed' : 'started';
  const unused = isUsed ? '' : ' and was not used since';
  const explanation = `It ${since} ${seconds(idleMs)} ago${unused}; it may stay unused for ${seconds(timeoutMs)}.`;
  return { ...head, verdict, explanation, remainingMs, evidence };
}

function judgeLifetime(session: JudgedSession, nowMs: number): IdleCheckView {
  const checker = 'session_lifetime';
  if (session.type === 'inference' || session.type === 'system') {
    return excluded(checker, `${session.type} sessions are not checked.`);
  }
  const { maxLifetimeMs, createdAtMs } = session;
  if (maxLifetimeMs === 0) return excluded(checker, 'The policy of its key pair sets no lifetime.');
  const ageMs = Math.max(0, nowMs - createdAtMs);
  const remainingMs = maxLifetimeMs - ageMs;
  return {
    checker,
    verdict: remainingMs <= 0 ? 'expired' : 'active',
    explanation: `It was created ${seconds(ageMs)} ago; the policy of its key pair allows ${seconds(maxLifetimeMs)}.`,
    remainingMs,
    remainingKind: 'expire_after',
    evidence: { createdAt: new Date(createdAtMs).toISOString(), ageMs, maxLifetimeMs },
  };
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}
