import type { SessionId } from '@backend.ai/core';
import { pgTable, primaryKey, text, uuid } from 'drizzle-orm/pg-core';

/**
 * Networks of sessions over several machines, from before they are made until they are known to be gone: rows outlive their
 * session.
 */
export const clusterNetworks = pgTable(
  'cluster_networks',
  {
    sessionId: uuid('session_id').$type<SessionId>().notNull(),
    swarmId: text('swarm_id').notNull(),
  },
  (table) => [primaryKey({ name: 'cluster_networks_pkey', columns: [table.sessionId, table.swarmId] })],
);
