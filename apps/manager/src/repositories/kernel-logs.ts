import type { KeptLog } from '@backend.ai/contract';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { storableJson, storableText } from './json-text.ts';

/** The end of what ended kernels wrote, in the present attempt and in earlier ones. */
export class KernelLogRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** From the agent that had the kernel, for when that has forgotten it. */
  async keep(kernelId: string, agentId: string, log: string, console: KeptLog | undefined): Promise<void> {
    const text = storableText(log);
    const kept = storableJson(console ? { log, console } : { log });
    await this.#db.execute(sql`
      with present as (
        update kernels set status_data = status_data || ${kept}::jsonb
        where id = ${kernelId}::uuid and agent_id = ${agentId}
      )
      update kernel_attempts set log = ${text} where kernel_id = ${kernelId}::uuid and agent_id = ${agentId}`);
  }

  async find(kernelId: string): Promise<{ readonly log: string | null; readonly console: KeptLog | null }> {
    const [row] = await this.#db.execute<{ log: string | null; console: KeptLog | null }>(
      sql`select status_data->>'log' as log, status_data->'console' as console from kernels where id = ${kernelId}::uuid`,
    );
    return row ?? { log: null, console: null };
  }

  /** Of the main kernel in attempts before the present one, in their order. */
  async earlier(sessionId: string): Promise<Array<{ attempt: number; log: string | null }>> {
    const rows = await this.#db.execute<{ attempt: number; log: string | null }>(sql`
      select attempt, log from kernel_attempts
      where session_id = ${sessionId}::uuid and cluster_role = 'main' order by attempt`);
    return [...rows];
  }
}
