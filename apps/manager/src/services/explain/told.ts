import { explainReason } from '@backend.ai/core';
import type { HistoryRecord } from '../../repositories/sessions.ts';
import type { Mention } from './words.ts';

/** What was said of a session, with the names of those whom it concerned besides. */

interface Concerned {
  /** For whom it made room. */
  readonly by?: string;
  /** Who made room for it. */
  readonly victims?: readonly string[];
}

const concernedIn = ({ reason, data }: HistoryRecord): Concerned =>
  reason === 'preempted' || reason === 'reserved' ? (data as Concerned) : {};

export function mentionedInHistory(history: readonly HistoryRecord[]): string[] {
  const ids = history
    .map(concernedIn)
    .flatMap(({ by, victims = [] }) => [...(by === undefined ? [] : [by]), ...victims]);
  return [...new Set(ids)];
}

/** Those who made room for it when it was placed last; undefined: nobody had to. */
export function victimsOf(record: HistoryRecord): readonly string[] | undefined {
  return concernedIn(record).victims;
}

/** One sentence for each record. */
export function toldSentences(history: readonly HistoryRecord[], mention: Mention): string[] {
  // Only the first step of making room names for whom.
  let by: string | undefined;
  return history.map((record) => {
    const concerned = concernedIn(record);
    by = concerned.by ?? by;
    const general = explainReason(record.reason);
    if (record.reason === 'preempted' && by !== undefined) return `${general.slice(0, -1)}: ${mention.sessions([by])}.`;
    if (concerned.victims) return `${general.slice(0, -1)}: ${mention.sessions(concerned.victims)}.`;
    return general;
  });
}
