import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { storableText } from './json-text.ts';

/** The end of what ended kernels wrote, in the present attempt and in earlier ones. */
export class KernelLogRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** From the agent that had the kernel, for when that has forgotten it. */
  async keep(kernelId: string, agentId: string, log: string): Promise<void> {
    const text = storableText(log);
    await this.#db.execute(sql`
      with present as (
        update kernels set status_data = status_data || jsonb_build_object('log', ${text}::text)
        where id = ${kernelId}::uuid and agent_id = ${agentId}
      )
      update kernel_attempts set log = ${text} where kernel_id = ${kernelId}::uuid and agent_id = ${agentId}`);
  }

  async find(kernelId: string): Promise<string | undefined> {
    const [row] = await this.#db.execute<{ log: string | null }>(
      sql`select status_data->>'log' as log from kernels where id = ${kernelId}::uuid`,
    );
    return row?.log ?? undefined;
  }

  /** Of the main kernel in attempts before the present one, in their order. */
  async earlier(sessionId: string): Promise<Array<{ attempt: number; log: string | null }>> {
    const rows = await this.#db.execute<{ attempt: number; log: string | null }>(sql`
      select attempt, log from kernel_attempts
      where session_id = ${sessionId}::uuid and cluster_role = 'main' order by attempt`);
    return [...rows];
  }
}
