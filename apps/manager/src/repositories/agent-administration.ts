import type { AgentStatus } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { type Database, sqlStateOf, sqlStates } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { terminalTexts } from './session-rows.ts';

/** What only administrators look at. */
export interface AgentDetailRecord {
  readonly id: string;
  readonly kernels: number;
  readonly lostAt: string | null;
}

/** `not-empty`: it has kernels, and nothing was changed. */
export type MoveOutcome = 'done' | 'absent' | 'not-empty';

export class AgentAdministrationRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async details(filter: {
    status?: AgentStatus | undefined;
    resourceGroup?: string | undefined;
  }): Promise<AgentDetailRecord[]> {
    const rows = await this.#db.execute<AgentDetailRecord & Record<string, unknown>>(sql`
      select a.id, a.lost_at as "lostAt",
        (select count(*)::int from kernels k where k.agent_id = a.id and k.status not in (${terminalTexts})) as kernels
      from agents a where (${filter.status ?? null}::text is null or a.status = ${filter.status ?? null}::text)
        and (${filter.resourceGroup ?? null}::text is null or a.resource_group = ${filter.resourceGroup ?? null}::text)
      order by a.id`);
    return [...rows];
  }

  /**
   * In one statement; another group only while it has no kernels, unless `force`.
   * @throws AppError `object-not-found` for the group
   */
  async modify(
    id: string,
    values: { schedulable?: boolean | undefined; resourceGroup?: string | undefined; force: boolean },
  ): Promise<MoveOutcome> {
    const { schedulable = null, resourceGroup = null, force } = values;
    try {
      const [row] = await this.#db.execute<{ found: boolean; changed: boolean }>(sql`
        with found as (select id, resource_group from agents where id = ${id} for update),
        changed as (
          update agents a set schedulable = coalesce(${schedulable}::boolean, a.schedulable),
            resource_group = coalesce(${resourceGroup}::text, a.resource_group)
          from found f where a.id = f.id and (${force}::boolean
            or coalesce(${resourceGroup}::text, f.resource_group) = f.resource_group
            or not exists (select 1 from kernels k where k.agent_id = f.id and k.status not in (${terminalTexts})))
          returning a.id
        )
        select exists (select 1 from found) as found, exists (select 1 from changed) as changed`);
      return row?.changed ? 'done' : row?.found ? 'not-empty' : 'absent';
    } catch (cause) {
      if (sqlStateOf(cause) !== sqlStates.foreignKeyViolation) throw cause;
      throw new AppError('object-not-found', `There is no resource group "${resourceGroup}".`, { cause });
    }
  }

  /** Sessions with a kernel there. */
  async sessionsAt(id: string): Promise<string[]> {
    const rows = await this.#db.execute<{ id: string }>(sql`
      select distinct k.session_id as id from kernels k
      where k.agent_id = ${id} and k.status not in (${terminalTexts}) order by 1`);
    return rows.map((row) => row.id);
  }
}
