import type { ScanReport } from '@backend.ai/contract';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export interface RegistryRecord {
  readonly id: string;
  readonly name: string;
  readonly url: string;
  readonly username: string | null;
  readonly passwordEncrypted: string | null;
  readonly repositories: string[];
  readonly isActive: boolean;
  /** PostgreSQL's text in UTC. */
  readonly scannedAt: string | null;
  readonly lastScan: ScanReport | null;
  /** How many are known of it. */
  readonly images: number;
}

export type RegistryValues = Pick<
  RegistryRecord,
  'url' | 'username' | 'passwordEncrypted' | 'repositories' | 'isActive'
>;

const columns = sql.raw(`
  r.id, r.name, r.url, r.username, r.password_encrypted as "passwordEncrypted", r.repositories, r.is_active as "isActive",
  r.scanned_at as "scannedAt", r.last_scan as "lastScan",
  (select count(*)::int from images i where i.registry_id = r.id) as images`);

export class ContainerRegistryRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<RegistryRecord[]> {
    const rows = await this.#db.execute<RegistryRecord & Record<string, unknown>>(
      sql`select ${columns} from container_registries r order by r.name`,
    );
    return [...rows];
  }

  async find(name: string): Promise<RegistryRecord | undefined> {
    const [row] = await this.#db.execute<RegistryRecord & Record<string, unknown>>(
      sql`select ${columns} from container_registries r where r.name = ${name}`,
    );
    return row;
  }

  /** @throws the database's `uniqueViolation` of the name or the URL */
  async create(id: string, name: string, values: RegistryValues): Promise<void> {
    await this.#db.execute(sql`
      insert into container_registries (id, name, url, username, password_encrypted, repositories, is_active)
      values (${id}::uuid, ${name}, ${values.url}, ${values.username}, ${values.passwordEncrypted},
        ${JSON.stringify(values.repositories)}::jsonb, ${values.isActive})`);
  }

  /** @throws the database's `uniqueViolation` of the URL */
  async modify(id: string, values: RegistryValues): Promise<boolean> {
    const rows = await this.#db.execute(sql`
      update container_registries set url = ${values.url}, username = ${values.username},
        password_encrypted = ${values.passwordEncrypted}, repositories = ${JSON.stringify(values.repositories)}::jsonb,
        is_active = ${values.isActive}
      where id = ${id}::uuid returning id`);
    return rows.length > 0;
  }

  async delete(name: string): Promise<boolean> {
    return (await this.#db.execute(sql`delete from container_registries where name = ${name} returning id`)).length > 0;
  }

  async scanned(id: string, report: ScanReport): Promise<void> {
    await this.#db.execute(sql`
      update container_registries set scanned_at = now(), last_scan = ${JSON.stringify(report)}::jsonb
      where id = ${id}::uuid`);
  }
}
