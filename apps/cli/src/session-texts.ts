import type { SessionView } from '@backend.ai/client';
import { explainReason, formatBinarySize } from '@backend.ai/core';

/** How sessions are told to people. */

export function slotsText(slots: Readonly<Record<string, string>>): string {
  return Object.entries(slots)
    .map(
      ([slot, amount]) =>
        `${slot}=${slot === 'mem' && /^\d+$/.test(amount) ? formatBinarySize(BigInt(amount)) : amount}`,
    )
    .join(' ');
}

export function reasonOf({ reason }: SessionView): string {
  return reason.message || explainReason(reason.code);
}

/** `12s`, `5m`, `3h`, `2d` since the given time. */
export function ageText(since: string, now: number = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}
