import type { SessionId } from '@backend.ai/core';
import { pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { sessions } from './sessions.ts';

/** By these the kernels of a session trust one another. A row lives as long as its session is alive. */
export const sessionKeyPairs = pgTable('session_key_pairs', {
  sessionId: uuid('session_id')
    .$type<SessionId>()
    .primaryKey()
    .references(() => sessions.id, { onDelete: 'cascade' }),
  /** As in `authorized_keys`. */
  publicKey: text('public_key').notNull(),
  /** A PEM under the installation key. */
  privateKeyEncrypted: text('private_key_encrypted').notNull(),
});
