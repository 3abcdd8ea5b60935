import { integer, pgTable, text } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/**
 * Which installation keys have encrypted secrets, one after the other; the keys themselves are in files of managers. The
 * last one encrypts. No row: the one under which the secrets are, and no other one has been since the beginning.
 */
export const installationKeys = pgTable('installation_keys', {
  generation: integer('generation').primaryKey(),
  keyId: text('key_id').notNull().unique('installation_keys_key_id_key'),
  /** Null: since the beginning. */
  encryptsSince: moment('encrypts_since'),
});

export type InstallationKeyRow = typeof installationKeys.$inferSelect;
