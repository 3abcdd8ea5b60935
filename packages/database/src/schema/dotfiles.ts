import type { AccessKey, ProjectId } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import { boolean, check, pgTable, text, unique, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';
import { domains, keypairs, projects } from './identity.ts';

/** What sessions of a key pair, a project or a domain find in their home folder: each file has one owner. */
export const dotfiles = pgTable(
  'dotfiles',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    accessKey: text('access_key')
      .$type<AccessKey>()
      .references(() => keypairs.accessKey, { onDelete: 'cascade' }),
    domainName: text('domain_name').references(() => domains.name, { onDelete: 'cascade' }),
    projectId: uuid('project_id')
      .$type<ProjectId>()
      .references(() => projects.id, { onDelete: 'cascade' }),
    /** Relative to the home folder. */
    path: text('path').notNull(),
    /** Octal digits. */
    permission: text('permission').notNull(),
    content: text('content').notNull(),
    /** A superadmin wrote it last: of those that are shared, sessions of superadmins have no others. */
    bySuperadmin: boolean('by_superadmin').notNull().default(false),
    createdAt: moment('created_at').notNull().defaultNow(),
    modifiedAt: moment('modified_at').notNull().defaultNow(),
  },
  (table) => [
    check('dotfiles_owner_check', sql`num_nonnulls(${table.accessKey}, ${table.domainName}, ${table.projectId}) = 1`),
    unique('dotfiles_access_key_path_key').on(table.accessKey, table.path),
    unique('dotfiles_domain_name_path_key').on(table.domainName, table.path),
    unique('dotfiles_project_id_path_key').on(table.projectId, table.path),
  ],
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
