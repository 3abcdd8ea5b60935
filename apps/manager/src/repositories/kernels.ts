import { rpcVersions } from '@backend.ai/contract';
import type { KernelStatus } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';
import { startColumns } from './placement-sql.ts';
import { servingTexts } from './session-rows.ts';
import type { StartableKernel } from './session-transitions.ts';

/** A kernel at work, with where its agent is. */
export interface KernelAtAgent {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly agentId: string;
  readonly status: KernelStatus;
  readonly reason: string;
  /** Of the session's state. */
  readonly data: Record<string, unknown>;
  readonly requestId: string;
  readonly ageMs: number;
}

/** A kernel among those of its session. */
export interface ClusterMember {
  readonly role: 'main' | 'sub';
  readonly hostname: string;
  readonly agentId: string | null;
  /** host:port of its agent's data port. */
  readonly agentAddress: string | null;
  readonly agentRpcVersion: number | null;
}

export interface KernelToBegin {
  readonly kernelId: string;
  readonly agentId: string;
}

export class KernelRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Kernels whose agent was told to end them, or should have been.
   * @param givenUp Sessions that have ended without a word of their agents: their kernels, too
   */
  async ending(givenUp: readonly string[] = []): Promise<KernelAtAgent[]> {
    const sessions = givenUp.map((id) => sql`${id}::uuid`);
    const orGivenUp = sessions.length > 0 ? sql`or k.session_id in (${sql.join(sessions, sql`, `)})` : sql``;
    const rows = await this.#db.execute<KernelAtAgent & Record<string, unknown>>(sql`
      select s.id as "sessionId", k.id as "kernelId", k.agent_id as "agentId", k.status, k.status_reason as "reason",
        s.status_data as "data", s.request_id as "requestId",
        (extract(epoch from now() - k.status_changed_at) * 1000)::float8 as "ageMs"
      from kernels k join sessions s on s.id = k.session_id
      where (k.status = 'TERMINATING' ${orGivenUp}) and k.agent_id is not null order by k.status_changed_at, k.id`);
    return [...rows];
  }

  /**
   * Kernels whose agent was told to start them, or should have been, and that have not come far enough for heartbeats to tell
   * that they are lost.
   * @param kernelId Only this one
   */
  async preparing(kernelId?: string): Promise<StartableKernel[]> {
    const rows = await this.#db.execute<StartableKernel & Record<string, unknown>>(sql`
      select s.id as "sessionId", k.id as "kernelId", k.agent_id as "agentId", s.name, s.access_key as "accessKey",
        s.status as "from", s.status as "to", s.status_reason as reason, s.request_id as "requestId", ${startColumns}
      from kernels k join sessions s on s.id = k.session_id
      where k.status in ('PREPARING', 'PULLING') and k.agent_id is not null
        ${kernelId === undefined ? sql`` : sql`and k.id = ${kernelId}::uuid`} order by k.status_changed_at, k.id`);
    return [...rows];
  }

  /**
   * The kernel whose batch job is to run now that all kernels of its session do, at an agent that begins it on an order.
   * None while the session is paused.
   */
  async batchToBegin(
    target: { readonly sessionId: string } | { readonly kernelId: string },
  ): Promise<KernelToBegin | null> {
    const meant = 'sessionId' in target ? sql`s.id = ${target.sessionId}::uuid` : sql`k.id = ${target.kernelId}::uuid`;
    const [row] = await this.#db.execute<KernelToBegin & Record<string, unknown>>(sql`
      select k.id as "kernelId", k.agent_id as "agentId"
      from kernels k join sessions s on s.id = k.session_id join agents a on a.id = k.agent_id
      where ${meant} and s.type = 'batch' and s.result = 'undefined' and s.status in (${servingTexts})
        and s.paused_at is null and k.cluster_role = 'main' and k.status = 'RUNNING' and a.rpc_version >= ${rpcVersions.beginBatch}`);
    return row ?? null;
  }

  /** All kernels of a session, in the order of their ranks. */
  async cluster(sessionId: string): Promise<ClusterMember[]> {
    const rows = await this.#db.execute<ClusterMember & Record<string, unknown>>(sql`
      select k.cluster_role as role, k.hostname, k.agent_id as "agentId", a.data_address as "agentAddress",
        a.rpc_version as "agentRpcVersion"
      from kernels k left join agents a on a.id = k.agent_id
      where k.session_id = ${sessionId}::uuid order by k.cluster_role, k.cluster_index`);
    return [...rows];
  }
}
