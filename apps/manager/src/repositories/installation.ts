import { type Database, repeatedTransaction } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export interface FirstAdmin {
  readonly userId: string;
  readonly email: string;
  readonly accessKey: string;
  readonly secretKeyEncrypted: string;
}

export class InstallationRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async find(key: string): Promise<string | undefined> {
    const [row] = await this.#db.execute<{ value: string }>(sql`select value from installation where key = ${key}`);
    return row?.value;
  }

  /** The value that is there, or the given one, which is then there. */
  async ensure(key: string, value: string): Promise<string> {
    const [row] = await this.#db.execute<{ value: string }>(sql`
      insert into installation (key, value) values (${key}, ${value})
      on conflict (key) do update set value = installation.value returning value`);
    return row?.value ?? value;
  }

  /** Domain, project and resource group `default`. */
  async ensureDefaults(projectId: string): Promise<void> {
    await this.#db.execute(sql`
      with domain as (insert into domains (name) values ('default') on conflict do nothing),
        resource_group as (insert into resource_groups (name) values ('default') on conflict do nothing)
      insert into projects (id, domain_name, name) values (${projectId}::uuid, 'default', 'default') on conflict do nothing`);
  }

  /** Makes the first superadmin with a key pair, unless there is one. One transaction decides between two managers. */
  async ensureSuperadmin(admin: FirstAdmin): Promise<{ accessKey: string; secretKeyEncrypted: string; email: string }> {
    return await repeatedTransaction(this.#db, async (tx) => {
      await tx.execute(sql`lock table users in share row exclusive mode`);
      const [found] = await tx.execute<{ accessKey: string; secretKeyEncrypted: string; email: string }>(sql`
        select k.access_key as "accessKey", k.secret_key_encrypted as "secretKeyEncrypted", u.email
        from users u join keypairs k on k.user_id = u.id
        where u.role = 'superadmin' and u.status = 'active' and k.is_active and k.is_admin order by u.created_at, k.created_at limit 1`);
      if (found) return found;
      await tx.execute(sql`
        with admin as (
          insert into users (id, email, username, full_name, role, domain_name)
          values (${admin.userId}::uuid, ${admin.email}, 'admin', 'Administrator', 'superadmin', 'default')
          on conflict (email) do update set role = 'superadmin', status = 'active' returning id
        ), keypair as (
          insert into keypairs (access_key, user_id, secret_key_encrypted, is_admin, is_main)
          select ${admin.accessKey}, a.id, ${admin.secretKeyEncrypted}, true,
            not exists (select 1 from keypairs k where k.user_id = a.id and k.is_main)
          from admin a
        )
        insert into project_members (project_id, user_id)
        select p.id, a.id from projects p cross join admin a where p.domain_name = 'default' and p.name = 'default'
        on conflict do nothing`);
      return admin;
    });
  }
}
