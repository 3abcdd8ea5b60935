import { z } from 'zod';

/**
 * Whether a moment is one that dates and databases can hold: of the years 1 to 9998.
 * @param at Milliseconds since the epoch; NaN is none
 */
export function isMoment(at: number): boolean {
  return at >= -62_135_596_800_000 && at < 253_370_764_800_000;
}

/** ISO 8601 with its distance to UTC. It is passed on in UTC, in milliseconds: PostgreSQL takes fewer forms than the standard. */
export const momentSchema = z.iso
  .datetime({ offset: true })
  .refine((text) => isMoment(Date.parse(text)), 'must be of the years 1 to 9998')
  .overwrite((text) => (isMoment(Date.parse(text)) ? new Date(text).toISOString() : text));
