import type { AccessKey } from '@backend.ai/core';
import { pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';
import { keypairs } from './identity.ts';

/** What sessions of a key pair find in their home folder. */
export const dotfiles = pgTable(
  'dotfiles',
  {
    accessKey: text('access_key')
      .$type<AccessKey>()
      .notNull()
      .references(() => keypairs.accessKey, { onDelete: 'cascade' }),
    /** Relative to the home folder. */
    path: text('path').notNull(),
    /** Octal digits. */
    permission: text('permission').notNull(),
    content: text('content').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    modifiedAt: moment('modified_at').notNull().defaultNow(),
  },
  (table) => [primaryKey({ name: 'dotfiles_pkey', columns: [table.accessKey, table.path] })],
);

/** What runs in sessions of a key pair first, unless they name something else. */
export const bootstrapScripts = pgTable('bootstrap_scripts', {
  accessKey: text('access_key')
    .$type<AccessKey>()
    .primaryKey()
    .references(() => keypairs.accessKey, { onDelete: 'cascade' }),
  script: text('script').notNull(),
  modifiedAt: moment('modified_at').notNull().defaultNow(),
});
