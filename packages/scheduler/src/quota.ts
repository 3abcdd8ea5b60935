import type { QuotaViolation } from './plan.ts';
import type { DenseSlots, SlotTable } from './slot-table.ts';
import type { Quota } from './snapshot.ts';

/** What the sessions of a scope hold together, and its limits. */
export interface ScopeUsage {
  readonly quota: Quota;
  readonly limits: Float64Array;
  readonly used: Float64Array;
  sessions: number;
  privateSessions: number;
}

export function scopeUsage(quota: Quota, slots: SlotTable): ScopeUsage {
  const unlisted = quota.unlisted === 'zero' ? 0 : Number.POSITIVE_INFINITY;
  const limits = Float64Array.from(slots.names, (name, column) =>
    Object.hasOwn(quota.limits, name) ? slots.offered(column, quota.limits[name] ?? 0n) : unlisted,
  );
  return { quota, limits, used: new Float64Array(limits.length), sessions: 0, privateSessions: 0 };
}

/** Private sessions hold nothing that a quota limits but their number. */
export function countSession(scopes: readonly ScopeUsage[], total: DenseSlots, isPrivate: boolean, sign: 1 | -1): void {
  for (const scope of scopes) {
    if (isPrivate) {
      scope.privateSessions += sign;
      continue;
    }
    scope.sessions += sign;
    for (let i = 0; i < total.columns.length; i++) scope.used[total.columns[i]!]! += sign * total.amounts[i]!;
  }
}

/** Whether one more session keeps to all limits. */
export function withinQuotas(scopes: readonly ScopeUsage[], total: DenseSlots, isPrivate: boolean): boolean {
  for (const { quota, limits, used, sessions, privateSessions } of scopes) {
    if (isPrivate) {
      if (privateSessions >= (quota.maxPrivateSessions ?? Number.POSITIVE_INFINITY)) return false;
      continue;
    }
    if (sessions >= (quota.maxSessions ?? Number.POSITIVE_INFINITY)) return false;
    for (let i = 0; i < total.columns.length; i++) {
      const column = total.columns[i]!;
      if (used[column]! + total.amounts[i]! > limits[column]!) return false;
    }
  }
  return true;
}

/** All limits that one more session would go beyond; empty when none. */
export function violatedQuotas(
  scopes: readonly ScopeUsage[],
  total: DenseSlots,
  isPrivate: boolean,
  slots: SlotTable,
): QuotaViolation[] {
  const violations: QuotaViolation[] = [];
  for (const { quota, limits, used, sessions, privateSessions } of scopes) {
    const { scope, id, maxSessions, maxPrivateSessions } = quota;
    const count = isPrivate ? privateSessions : sessions;
    const most = isPrivate ? maxPrivateSessions : maxSessions;
    if (most !== undefined && count >= most) {
      const slot = isPrivate ? 'private-sessions' : 'sessions';
      violations.push({ scope, id, slot, asked: '1', used: String(count), limit: String(most) });
    }
    if (isPrivate) continue;
    for (let i = 0; i < total.columns.length; i++) {
      const column = total.columns[i]!;
      if (used[column]! + total.amounts[i]! <= limits[column]!) continue;
      violations.push({
        scope,
        id,
        slot: slots.names[column]!,
        asked: slots.text(column, total.amounts[i]!),
        used: slots.text(column, used[column]!),
        limit: slots.text(column, limits[column]!),
      });
    }
  }
  return violations;
}
