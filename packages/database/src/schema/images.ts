import { bigint, boolean, index, jsonb, pgTable, primaryKey, text, unique, uuid } from 'drizzle-orm/pg-core';
import { moment } from './columns.ts';

/** Where container images come from. */
export const containerRegistries = pgTable(
  'container_registries',
  {
    id: uuid('id').primaryKey(),
    name: text('name').notNull(),
    /** Scheme, host and port. */
    url: text('url').notNull(),
    username: text('username'),
    /** Under the installation key. */
    passwordEncrypted: text('password_encrypted'),
    /** Only these and what is below them; empty: all of its catalogue. */
    repositories: jsonb('repositories').$type<string[]>().notNull().default([]),
    isActive: boolean('is_active').notNull().default(true),
    /** Of the last rescan that came to its end. */
    scannedAt: moment('scanned_at'),
    lastScan: jsonb('last_scan').$type<Record<string, unknown>>(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    unique('container_registries_name_key').on(table.name),
    unique('container_registries_url_key').on(table.url),
  ],
);

/** What registries have, one row for each name and architecture. */
export const images = pgTable(
  'images',
  {
    id: uuid('id').primaryKey(),
    registryId: uuid('registry_id')
      .notNull()
      .references(() => containerRegistries.id, { onDelete: 'cascade' }),
    /** Canonical: `host:port/repository:tag`. */
    name: text('name').notNull(),
    repository: text('repository').notNull(),
    tag: text('tag').notNull(),
    architecture: text('architecture').notNull(),
    /** Of its configuration. */
    digest: text('digest').notNull(),
    /** Of its manifest for the architecture. */
    manifestDigest: text('manifest_digest').notNull(),
    sizeBytes: bigint('size_bytes', { mode: 'number' }).notNull(),
    /** Those of the platform. */
    labels: jsonb('labels').$type<Record<string, string>>().notNull().default({}),
    scannedAt: moment('scanned_at').notNull().defaultNow(),
  },
  (table) => [
    unique('images_name_architecture_key').on(table.name, table.architecture),
    index('images_registry_id_idx').on(table.registryId),
  ],
);

/** Names that administrators gave. They may mean images that only agents have. */
export const imageAliases = pgTable(
  'image_aliases',
  {
    alias: text('alias').notNull(),
    architecture: text('architecture').notNull(),
    /** Canonical name. */
    image: text('image').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [primaryKey({ name: 'image_aliases_pkey', columns: [table.alias, table.architecture] })],
);
