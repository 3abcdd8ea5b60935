import type { Cluster, Holding, Waiting } from './cluster.ts';
import { Placing } from './placing.ts';
import type { Plan, Reservation } from './plan.ts';
import { preemptFor } from './preemption.ts';

/** What preemption would do for a session that waits. */
export interface PreemptionPreview {
  readonly mode: Reservation['mode'];
  /** False: something besides resources stands in its way, or it is not its turn. */
  readonly byNextPass: boolean;
  /** They have to run until then before they may be made to leave; null: they have. */
  readonly from: number | null;
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
export function reservationNow(
  waiting: Waiting,
  cluster: Cluster,
  now: number,
  leaving: ReadonlySet<string> = nobody,
): Reservation | undefined {
  if (waiting.shapes.some(({ kind }) => kind.obstacle)) return undefined;
  const mark = cluster.table.mark();
  const placing = new Placing(cluster.table);
  const fits = !('failed' in placing.place(waiting));
  const reservation = fits ? undefined : preemptFor(waiting, cluster, placing, claimedBy(leaving, cluster), now);
  cluster.table.undo(mark);
  return reservation;
}

/** Victims, once they have run for as long as their group wants. */
export interface LaterReservation {
  readonly at: number;
  readonly reservation: Reservation;
}

/**
 * The first moment at which those who may not be made to leave yet would make room, if nothing else happens.
 * @param from When nobody can.
 * @param leaving Those who leave for others.
 */
export function reservationLater(
  waiting: Waiting,
  cluster: Cluster,
  from: number,
  leaving: ReadonlySet<string> = nobody,
): LaterReservation | undefined {
  const { holdings, options } = waiting.group;
  const { enabled = false, minRuntimeSec = 0 } = options.preemption ?? {};
  if (!enabled || minRuntimeSec <= 0) return undefined;
  const ripe = [...holdings].map(({ session }) => (session.startedAt ?? Number.NaN) + minRuntimeSec * 1_000);
  const moments = [...new Set(ripe)].filter((at) => at > from).sort((a, b) => a - b);
  const reserveAt = (index: number): LaterReservation | undefined => {
    const at = moments[index]!;
    const reservation = reservationNow(waiting, cluster, at, leaving);
    return reservation && { at, reservation };
  };
  // The later it is, the more may be made to leave.
  let found = moments.length > 0 ? reserveAt(moments.length - 1) : undefined;
  if (!found) return undefined;
  for (let low = 0, high = moments.length - 1; low < high; ) {
    const middle = (low + high) >> 1;
    const earlier = reserveAt(middle);
    if (earlier) {
      found = earlier;
      high = middle;
    } else low = middle + 1;
  }
  return found;
}

const nobody: ReadonlySet<string> = new Set();

function claimedBy(leaving: ReadonlySet<string>, { holdings }: Cluster): Set<Holding> {
  return new Set([...leaving].flatMap((sessionId) => holdings.get(sessionId) ?? []));
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
  if (!planned && !plan.reasons.has(sessionId)) return null;
  const soon = planned ?? reservationNow(waiting, cluster, now);
  const later = soon ? undefined : reservationLater(waiting, cluster, now);
  const reservation = soon ?? later?.reservation;
  if (!reservation) return null;
  const { mode, kernels, victims } = reservation;
  const leaving = victims.flatMap((victim) => cluster.holdings.get(victim.sessionId)?.session ?? []);
  const ending = leaving.flatMap(({ sessionId: id, kernels: held }) => held.map(({ agentId }) => ({ agentId, id })));
  const agentIds = [...new Set([...kernels, ...ending].map(({ agentId }) => agentId))].sort();
  return {
    mode,
    byNextPass: planned !== undefined,
    from: later?.at ?? null,
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
