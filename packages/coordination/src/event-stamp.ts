import { AppError, type Clock, newId } from '@backend.ai/core';
import { requireRequestId } from '@backend.ai/telemetry';
import type { BusEvent } from './event-bus.ts';

/** Makes the events of one process: who, when and because of which request. */
export function eventStamp(source: string, clock: Clock): (type: string, payload: unknown) => BusEvent {
  let last = { ms: Number.NaN, iso: '' };
  return (type, payload) => {
    const ms = clock.now();
    // Many events fall into one millisecond, and writing a date costs more than the rest of the stamp.
    if (ms !== last.ms) last = { ms, iso: new Date(ms).toISOString() };
    return { id: newId(ms), type, payload, requestId: requireRequestId(), source, at: last.iso };
  };
}

export const busClosed = (): AppError => new AppError('shutting-down', 'The event bus is closed.');

/** @throws AppError `internal` when a consumer wants other types than the consumers of its group before it */
export function requireSameTypes(group: string, before: readonly string[], now: readonly string[]): void {
  const [left, right] = [new Set(before), new Set(now)];
  if (left.size === right.size && [...left].every((type) => right.has(type))) return;
  throw new AppError('internal', `Consumers of the group ${group} want different types of events.`, {
    detail: { before, now },
  });
}
