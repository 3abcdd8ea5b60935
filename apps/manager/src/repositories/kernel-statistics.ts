import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export interface MeasuredKernel {
  readonly id: string;
  readonly role: 'main' | 'sub';
  readonly index: number;
  readonly agentId: string | null;
  readonly slots: Readonly<Record<string, string>>;
  /** What was kept of its use when it ended. */
  readonly kept: Record<string, unknown> | null;
  /** Of attempts before the present one that ran; null: none of it was measured. */
  readonly earlier: {
    readonly attempts: number;
    readonly cpuMs: number | null;
    readonly memoryPeakBytes: number | null;
  };
}

/** Kernels of a session as `MeasuredKernel`s in JSON; expects `s` to be sessions. */
export const measuredKernels = sql.raw(`
  (select jsonb_agg(jsonb_build_object('id', k.id, 'role', k.cluster_role, 'index', k.cluster_index, 'agentId', k.agent_id,
      'slots', k.requested_slots, 'kept', k.status_data->'statistics', 'earlier',
      (select jsonb_build_object('attempts', count(*), 'cpuMs', sum((a.statistics->>'cpuMs')::float8),
          'memoryPeakBytes', max((a.statistics->>'memoryPeakBytes')::float8))
        from kernel_attempts a where a.session_id = k.session_id and a.cluster_role = k.cluster_role
          and a.cluster_index = k.cluster_index)) order by k.cluster_role, k.cluster_index)
    from kernels k where k.session_id = s.id)`);

export class KernelStatisticsRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** What a kernel had used when it ended. */
  async keep(kernelId: string, agentId: string, last: Record<string, unknown>): Promise<void> {
    await this.#db.execute(sql`
      update kernels set status_data = status_data || jsonb_build_object('statistics', ${JSON.stringify(last)}::jsonb)
      where id = ${kernelId}::uuid and agent_id = ${agentId}`);
  }
}
