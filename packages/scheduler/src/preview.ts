import type { Cluster, Waiting } from './cluster.ts';
import { Placing } from './placing.ts';
import type { Plan, Reservation } from './plan.ts';
import { preemptFor } from './preemption.ts';

/** What preemption would do for a session that waits. */
export interface PreemptionPreview {
  readonly mode: Reservation['mode'];
  /** False: something besides resources stands in its way, or it is not its turn. */
  readonly byNextPass: boolean;
  /** Those who would have to leave. */
  readonly sessions: readonly string[];
  /** Agents where it would go, and those where the others hold kernels; by id. */
  readonly agents: ReadonlyArray<{
    readonly agentId: string;
    /** Kernels of the session that would go there. */
    readonly placed: number;
    /** Kernels of others that would end there. */
    readonly ended: number;
    readonly sessions: readonly string[];
  }>;
}

/** Who would have to leave if a session were to start now; undefined: nobody may, or nobody has to. */
export function reservationNow(waiting: Waiting, cluster: Cluster, now: number): Reservation | undefined {
  if (waiting.shapes.some(({ kind }) => kind.obstacle)) return undefined;
  const mark = cluster.table.mark();
  const placing = new Placing(cluster.table);
  const fits = !('failed' in placing.place(waiting));
  const reservation = fits ? undefined : preemptFor(waiting, cluster, placing, new Set(), now);
  cluster.table.undo(mark);
  return reservation;
}

/**
 * Who leaves with the next pass, or would once nothing else stands in a session's way.
 * @param plan Of the same cluster and moment.
 * @returns null: preemption does nothing for it
 */
export function previewPreemption(
  waiting: Waiting,
  cluster: Cluster,
  plan: Plan,
  now: number,
): PreemptionPreview | null {
  const { sessionId } = waiting.session;
  const planned = plan.reservations.find((reservation) => reservation.sessionId === sessionId);
  // Without a reason to wait it is placed, and nobody leaves.
  const reservation = planned ?? (plan.reasons.has(sessionId) ? reservationNow(waiting, cluster, now) : undefined);
  if (!reservation) return null;
  const { mode, kernels, victims } = reservation;
  const leaving = victims.flatMap((victim) => cluster.holdings.get(victim.sessionId)?.session ?? []);
  const ending = leaving.flatMap(({ sessionId: id, kernels: held }) => held.map(({ agentId }) => ({ agentId, id })));
  const agentIds = [...new Set([...kernels, ...ending].map(({ agentId }) => agentId))].sort();
  return {
    mode,
    byNextPass: planned !== undefined,
    sessions: leaving.map((session) => session.sessionId),
    agents: agentIds.map((agentId) => {
      const endingThere = ending.filter((kernel) => kernel.agentId === agentId);
      return {
        agentId,
        placed: kernels.filter((kernel) => kernel.agentId === agentId).length,
        ended: endingThere.length,
        sessions: [...new Set(endingThere.map(({ id }) => id))],
      };
    }),
  };
}
