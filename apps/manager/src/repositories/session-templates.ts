import type { Database, Transaction } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export interface SessionTemplateRecord {
  readonly id: string;
  readonly userId: string;
  readonly domain: string;
  readonly project: string;
  readonly name: string;
  readonly template: Record<string, unknown>;
  /** PostgreSQL's text in UTC. */
  readonly createdAt: string;
}

export type NewSessionTemplate = Omit<SessionTemplateRecord, 'createdAt'>;

export class SessionTemplateRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Newest first. */
  async list(userId: string): Promise<SessionTemplateRecord[]> {
    const rows = await this.#db.execute<SessionTemplateRecord & Record<string, unknown>>(sql`
      select id, user_id as "userId", domain_name as domain, project_name as project, name, template,
        created_at as "createdAt"
      from session_templates where user_id = ${userId}::uuid order by created_at desc, id desc`);
    return [...rows];
  }

  /** Holds up other changes of the user's templates until the transaction ends; tells which have one of the names. */
  async lockNames(tx: Transaction, userId: string, names: readonly string[]): Promise<{ id: string; name: string }[]> {
    await tx.execute(sql`select 1 from users where id = ${userId}::uuid for no key update`);
    const rows = await tx.execute<{ id: string; name: string }>(sql`
      select id, name from session_templates
      where user_id = ${userId}::uuid and name in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
    return [...rows];
  }

  async insert(tx: Transaction, { id, userId, domain, project, name, template }: NewSessionTemplate): Promise<void> {
    await tx.execute(sql`
      insert into session_templates (id, user_id, domain_name, project_name, name, template)
      values (${id}::uuid, ${userId}::uuid, ${domain}, ${project}, ${name}, ${JSON.stringify(template)}::jsonb)`);
  }

  async update(tx: Transaction, id: string, name: string, template: Record<string, unknown>): Promise<void> {
    await tx.execute(sql`
      update session_templates set name = ${name}, template = ${JSON.stringify(template)}::jsonb, modified_at = now()
      where id = ${id}::uuid`);
  }

  async remove(tx: Transaction, id: string): Promise<void> {
    await tx.execute(sql`delete from session_templates where id = ${id}::uuid`);
  }
}
