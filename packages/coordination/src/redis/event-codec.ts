import { newRequestId, parseRequestId } from '@backend.ai/core';
import type { BusEvent } from '../event-bus.ts';
import type { StreamEntry } from './blocking-connection.ts';

export const encodeEvent = (event: BusEvent): string => JSON.stringify(event);

/** Undefined for what is not an event. */
export function decodeEvent({ body }: Pick<StreamEntry, 'body'>): BusEvent | undefined {
  try {
    const event = JSON.parse(body ?? 'null') as Partial<BusEvent> | null;
    if (typeof event?.id !== 'string' || typeof event.type !== 'string') return undefined;
    if (typeof event.source !== 'string' || typeof event.at !== 'string') return undefined;
    return parseRequestId(event.requestId) ? (event as BusEvent) : undefined;
  } catch {
    return undefined;
  }
}

/** Stands for an entry that is not an event, so that a dead letter can tell of it. */
export function foreignEvent({ stream, entryId, body }: StreamEntry): BusEvent {
  const at = new Date(Number(entryId.split('-')[0])).toISOString();
  return { id: entryId, type: stream, payload: body ?? null, requestId: newRequestId(), source: 'unknown', at };
}

/** Order of entries of streams: by time, then by number. */
export function compareEntryIds(left: string, right: string): number {
  const [leftMs = 0, leftCount = 0] = left.split('-').map(Number);
  const [rightMs = 0, rightCount = 0] = right.split('-').map(Number);
  return leftMs - rightMs || leftCount - rightCount;
}
