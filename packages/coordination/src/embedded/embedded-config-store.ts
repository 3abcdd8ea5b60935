import { configEntries, type Database } from '@backend.ai/database';
import type { Logger } from '@backend.ai/telemetry';
import { and, asc, eq, sql } from 'drizzle-orm';
import type { ConfigChange, ConfigEntry, ConfigStore } from '../config-store.ts';

const nextRevision = sql<number>`nextval('config_revisions')`;

interface Watcher {
  readonly prefix: string;
  readonly onChange: (change: ConfigChange) => void;
}

/**
 * The config store in the embedded database. Watchers are told by this object, so there is one per database; the only
 * session of that database answers changes in the order of their revisions.
 */
export class EmbeddedConfigStore implements ConfigStore {
  readonly #db: Database;
  readonly #logger: Logger;
  readonly #watchers = new Set<Watcher>();

  constructor(db: Database, logger: Logger) {
    this.#db = db;
    this.#logger = logger;
  }

  async get(key: string): Promise<ConfigEntry | null> {
    const [entry] = await this.#db.select().from(configEntries).where(eq(configEntries.key, key));
    return entry ?? null;
  }

  async put(key: string, value: string): Promise<ConfigEntry> {
    const [entry] = await this.#db
      .insert(configEntries)
      .values({ key, value, revision: nextRevision })
      .onConflictDoUpdate({ target: configEntries.key, set: { value, revision: nextRevision } })
      .returning();
    return this.#changed(entry!);
  }

  async compareAndSet(key: string, revision: number | null, value: string): Promise<ConfigEntry | null> {
    const [entry] =
      revision === null
        ? await this.#db
            .insert(configEntries)
            .values({ key, value, revision: nextRevision })
            .onConflictDoNothing()
            .returning()
        : await this.#db
            .update(configEntries)
            .set({ value, revision: nextRevision })
            .where(and(eq(configEntries.key, key), eq(configEntries.revision, revision)))
            .returning();
    return entry ? this.#changed(entry) : null;
  }

  async delete(key: string): Promise<boolean> {
    const [gone] = await this.#db
      .delete(configEntries)
      .where(eq(configEntries.key, key))
      .returning({ revision: sql`nextval('config_revisions')`.mapWith(Number) });
    if (!gone) return false;
    this.#tell({ key, value: null, revision: gone.revision });
    return true;
  }

  list(prefix: string): Promise<ConfigEntry[]> {
    return this.#db
      .select()
      .from(configEntries)
      .where(sql`starts_with(${configEntries.key}, ${prefix})`)
      .orderBy(asc(configEntries.key));
  }

  watch(prefix: string, onChange: (change: ConfigChange) => void): () => void {
    const watcher = { prefix, onChange };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #changed(entry: ConfigEntry): ConfigEntry {
    this.#tell(entry);
    return entry;
  }

  #tell(change: ConfigChange): void {
    for (const { prefix, onChange } of this.#watchers) {
      if (!change.key.startsWith(prefix)) continue;
      try {
        onChange(change);
      } catch (error) {
        this.#logger.error('watcher of settings failed', { key: change.key, error });
      }
    }
  }
}
