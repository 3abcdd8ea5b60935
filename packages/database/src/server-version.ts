import { sql } from 'drizzle-orm';
import type { Database } from './database.ts';

/** Asks the server what it is, which also shows that it answers: `PostgreSQL 15.8`. */
export async function serverVersion(db: Pick<Database, 'execute'>): Promise<string> {
  const [row] = await db.execute<{ version: string }>(sql`select current_setting('server_version') as version`);
  return `PostgreSQL ${row?.version.split(' ')[0]}`;
}
