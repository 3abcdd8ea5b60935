import type { Cluster, Waiting } from './cluster.ts';
import type { Plan } from './plan.ts';
import { countSession } from './quota.ts';

/** Work on the cluster with what the plan does before. It is as it was afterwards. */
export function asPlanned<T>(cluster: Cluster, plan: Plan, work: () => T): T {
  const { table } = cluster;
  const mark = table.mark();
  const counted: Waiting[] = [];
  for (const { sessionId, decision } of [...plan.placements, ...plan.reservations]) {
    const waiting = cluster.waiting.get(sessionId);
    if (!waiting) continue;
    decision.forEach(({ agentId }, unit) => {
      const { slots, kernels } = waiting.shapes[unit]!;
      table.take(table.indexOf(agentId)!, slots, kernels);
    });
    countSession(waiting.scopes, waiting.total, waiting.session.private ?? false, 1);
    counted.push(waiting);
  }
  try {
    return work();
  } finally {
    for (const { scopes, total, session } of counted) countSession(scopes, total, session.private ?? false, -1);
    table.undo(mark);
  }
}
