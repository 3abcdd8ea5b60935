import { check, jsonb, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { moment, oneOf } from './columns.ts';

export const peerKinds = ['agent', 'storage-proxy', 'coordinator', 'worker', 'manager'] as const;
export type PeerKind = (typeof peerKinds)[number];

export interface ToldKeys {
  readonly ids: readonly string[];
  /** Under which it encrypts. */
  readonly encrypts: string;
}

/** Components that may connect, known by their Ed25519 public key. */
export const peers = pgTable(
  'peers',
  {
    id: text('id').primaryKey(),
    kind: text('kind').$type<PeerKind>().notNull(),
    name: text('name').notNull(),
    publicKey: text('public_key').notNull(),
    resourceGroup: text('resource_group'),
    createdAt: moment('created_at').notNull().defaultNow(),
    revokedAt: moment('revoked_at'),
    lastSeenAt: moment('last_seen_at'),
    requestId: text('request_id').notNull(),
    /** Of a manager: what it told of its installation keys, oldest first. */
    installationKeys: jsonb('installation_keys').$type<ToldKeys>(),
  },
  (table) => [check('peers_kind_check', oneOf(table.kind, peerKinds))],
);

/** Single-use permissions to join; only the hash of a token is kept. */
export const peerTokens = pgTable(
  'peer_tokens',
  {
    id: uuid('id').primaryKey(),
    tokenHash: text('token_hash').notNull().unique('peer_tokens_token_hash_key'),
    kind: text('kind').$type<PeerKind>().notNull(),
    resourceGroup: text('resource_group'),
    expiresAt: moment('expires_at').notNull(),
    usedAt: moment('used_at'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [check('peer_tokens_kind_check', oneOf(table.kind, peerKinds))],
);

export type PeerRow = typeof peers.$inferSelect;
export type PeerTokenRow = typeof peerTokens.$inferSelect;
