/** Spans of days in UTC, as people write them. Ends are not included. */
export interface Span {
  readonly from: Date;
  readonly to: Date;
}

/** `202501`: the whole month. Undefined for what is none. */
export function monthSpan(text: string): Span | undefined {
  const from = dayOf(`${text}01`);
  return from && { from, to: new Date(Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + 1)) };
}

/** From `20250131` to `20250202`, both included. Undefined for what are no days, and for a last one before the first. */
export function daySpan(first: string, last: string): Span | undefined {
  const [from, lastDay] = [dayOf(first), dayOf(last)];
  if (!from || !lastDay || lastDay < from) return undefined;
  return { from, to: new Date(lastDay.getTime() + 24 * 3_600_000) };
}

function dayOf(text: string): Date | undefined {
  const [, year, month, day] = /^(\d{4})(\d{2})(\d{2})$/.exec(text) ?? [];
  const iso = `${year}-${month}-${day}`;
  const date = new Date(`${iso}T00:00:00Z`);
  // The 30th of February would be the 2nd of March.
  return Number.isNaN(date.getTime()) || !date.toISOString().startsWith(iso) ? undefined : date;
}
