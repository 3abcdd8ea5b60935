import type { UserRole } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import type { PresetValues } from './resource-presets.ts';

export interface FixtureUser {
  readonly userId: string;
  readonly email: string;
  readonly username: string;
  readonly fullName: string;
  readonly role: UserRole;
  readonly domain: string;
  /** Projects of that domain. */
  readonly projects: readonly string[];
  readonly accessKey: string;
  readonly secretKeyEncrypted: string;
}

/** Rows by their names: each method makes what is not there, and leaves what is. */
export class FixtureRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async ensureDomain(name: string): Promise<void> {
    await this.#db.execute(sql`insert into domains (name) values (${name}) on conflict do nothing`);
  }

  async ensureResourceGroup(name: string): Promise<void> {
    await this.#db.execute(sql`insert into resource_groups (name) values (${name}) on conflict do nothing`);
  }

  async ensureProject(project: { id: string; domain: string; name: string }): Promise<void> {
    await this.#db.execute(sql`
      insert into projects (id, domain_name, name) values (${project.id}::uuid, ${project.domain}, ${project.name})
      on conflict (domain_name, name) do nothing`);
  }

  async ensurePreset(id: string, preset: PresetValues): Promise<void> {
    await this.#db.execute(sql`
      insert into resource_presets (id, name, resource_group, resource_slots, shared_memory)
      values (${id}::uuid, ${preset.name}, ${preset.resourceGroup}, ${JSON.stringify(preset.resourceSlots)}::jsonb,
        ${preset.sharedMemory}::bigint)
      on conflict do nothing`);
  }

  /** The user's active key pair: the one that is there, or the given one, which is then there. */
  async ensureUser(user: FixtureUser): Promise<{ accessKey: string; secretKeyEncrypted: string }> {
    const [row] = await this.#db.execute<{ accessKey: string; secretKeyEncrypted: string }>(sql`
      with person as (
        insert into users (id, email, username, full_name, role, domain_name)
        values (${user.userId}::uuid, ${user.email}, ${user.username}, ${user.fullName}, ${user.role}, ${user.domain})
        on conflict (email) do update set email = excluded.email returning id
      ), member as (
        insert into project_members (project_id, user_id)
        select p.id, u.id from person u join projects p on p.domain_name = ${user.domain}
          and p.name in (select jsonb_array_elements_text(${JSON.stringify(user.projects)}::jsonb))
        on conflict do nothing
      ), existing as (
        select k.access_key, k.secret_key_encrypted from keypairs k join person u on u.id = k.user_id
        where k.is_active order by k.created_at, k.access_key limit 1
      ), made as (
        insert into keypairs (access_key, user_id, secret_key_encrypted, is_admin, is_main)
        select ${user.accessKey}, p.id, ${user.secretKeyEncrypted}, ${user.role !== 'user'}::boolean,
          not exists (select 1 from keypairs k where k.user_id = p.id and k.is_main)
        from person p where not exists (select 1 from existing)
        returning access_key, secret_key_encrypted
      )
      select access_key as "accessKey", secret_key_encrypted as "secretKeyEncrypted" from existing
      union all select access_key, secret_key_encrypted from made`);
    return row!;
  }
}
