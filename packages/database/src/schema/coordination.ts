import { bigint, pgSequence, pgTable, text } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** One number per change of any entry; numbers of failed changes are skipped. */
export const configRevisions = pgSequence('config_revisions');

export const configEntries = pgTable('config_entries', {
  key: text('key').primaryKey(),
  value: text('value').notNull(),
  revision: bigint('revision', { mode: 'number' }).notNull(),
});

/**
 * A row stays when its lease ends, because `epoch` only ever grows: it is the fencing epoch that every write of a
 * leader checks (see fencing.ts), also where the lease itself is kept elsewhere.
 */
export const leases = pgTable('leases', {
  name: text('name').primaryKey(),
  holder: text('holder').notNull(),
  epoch: bigint('epoch', { mode: 'number' }).notNull(),
  expiresAt: moment('expires_at').notNull(),
});

/** Facts about this installation: its id, key fingerprints. */
export const installation = pgTable('installation', {
  key: text('key').primaryKey(),
  value: text('value').notNull(),
});
