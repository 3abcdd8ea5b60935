import { addSlots, amountToText, fits, lackingSlots, type ResourceSlots, subtractSlots } from '@backend.ai/core';
import type { Lacking, Placement, Plan, WaitingReason } from './plan.ts';
import { type AgentSnapshot, imageKey, type PendingSession, type Snapshot } from './snapshot.ts';

/**
 * One pass over the queue: highest priority first, then in order of arrival; each session goes to the first agent (by
 * id) with room.
 *
 * A session that does not fit now does not hold back those behind it which do: small sessions may pass a large one.
 * That keeps machines busy and costs the large one time, without bound if small ones never cease; an operator gives it
 * a higher priority or its own resource group. It says so in its reason.
 *
 * Pure: the same snapshot gives the same plan, whatever the order of its lists.
 */
export function schedule(snapshot: Snapshot): Plan {
  const agents = [...snapshot.agents].sort((a, b) => compareText(a.id, b.id));
  const free = new Map(agents.map((agent) => [agent.id, subtractSlots(agent.capacity, agent.used)]));
  const placements: Placement[] = [];
  const reasons = new Map<string, WaitingReason>();

  for (const session of inOrder(snapshot.pending)) {
    if (session.notBefore !== undefined && session.notBefore > snapshot.now) {
      reasons.set(session.sessionId, {
        code: 'agent-refused',
        data: { nextTryAt: new Date(session.notBefore).toISOString(), agents: [...(session.refusedBy ?? [])].sort() },
      });
      continue;
    }
    const suitable = suitableAgents(session, agents);
    if (!Array.isArray(suitable)) {
      reasons.set(session.sessionId, suitable);
      continue;
    }
    const wanted = requestOf(session);
    const chosen = preferNotRefused(session, suitable).find((agent) => fits(wanted, free.get(agent.id) ?? {}));
    if (chosen) {
      free.set(chosen.id, subtractSlots(free.get(chosen.id) ?? {}, wanted));
      const kernels = session.kernels.map(({ kernelId }) => ({ kernelId, agentId: chosen.id }));
      placements.push({ sessionId: session.sessionId, kernels, decision: [] });
      continue;
    }
    reasons.set(session.sessionId, {
      code: 'insufficient-resources',
      data: { lacking: lackingEverywhere(wanted, suitable) },
    });
  }
  return { placements, reservations: [], reasons, attempted: [], deprioritised: [], expired: [], roundRobin: {} };
}

/** Agents that could ever take it, or why there are none. */
function suitableAgents(session: PendingSession, agents: readonly AgentSnapshot[]): AgentSnapshot[] | WaitingReason {
  const inGroup = agents.filter((a) => a.resourceGroup === session.resourceGroup && a.status !== 'TERMINATED');
  if (inGroup.length === 0) return { code: 'no-agent', data: { resourceGroup: session.resourceGroup } };
  const open = inGroup.filter((agent) => agent.status === 'ALIVE' && agent.schedulable);
  if (open.length === 0) return { code: 'no-agent-alive', data: { resourceGroup: session.resourceGroup } };
  const withImage = open.filter((agent) => hasImages(agent, session));
  if (withImage.length === 0) {
    const { image, architecture } = session.kernels[0] ?? { image: '', architecture: '' };
    return { code: 'no-agent-with-image', data: { image, architecture } };
  }
  return withImage;
}

export function hasImages(agent: AgentSnapshot, session: PendingSession): boolean {
  return session.kernels.every((kernel) => agent.images.includes(imageKey(kernel.image, kernel.architecture)));
}

/** What all kernels of a session ask for together. */
export function requestOf(session: PendingSession): ResourceSlots {
  return session.kernels.reduce<ResourceSlots>((sum, kernel) => addSlots(sum, kernel.slots), {});
}

/** Order of the queue: priority, then arrival. Ids sort by creation time and decide between equals. */
export function inOrder(pending: readonly PendingSession[]): PendingSession[] {
  return [...pending].sort(
    (a, b) => b.priority - a.priority || a.createdAt - b.createdAt || compareText(a.sessionId, b.sessionId),
  );
}

function preferNotRefused(session: PendingSession, agents: AgentSnapshot[]): AgentSnapshot[] {
  const refused = session.refusedBy;
  if (!refused || refused.length === 0) return agents;
  return [...agents.filter((a) => !refused.includes(a.id)), ...agents.filter((a) => refused.includes(a.id))];
}

/** Slots of which no single agent has enough free: what was asked, and the most that one agent has. */
function lackingEverywhere(wanted: ResourceSlots, agents: readonly AgentSnapshot[]): Lacking {
  const lacking: Record<string, { asked: string; mostFree: string }> = {};
  for (const name of new Set(agents.flatMap((a) => lackingSlots(wanted, subtractSlots(a.capacity, a.used))))) {
    const most = agents.reduce((max, a) => {
      const here = (a.capacity[name] ?? 0n) - (a.used[name] ?? 0n);
      return here > max ? here : max;
    }, 0n);
    lacking[name] = { asked: amountToText(wanted[name] ?? 0n), mostFree: amountToText(most) };
  }
  return lacking;
}

/** The snapshot after a plan was carried out: for tests and simulations. */
export function applyPlan(snapshot: Snapshot, plan: Plan): Snapshot {
  const waiting = new Map(snapshot.pending.map((session) => [session.sessionId, session]));
  const used = new Map(snapshot.agents.map((agent) => [agent.id, agent.used]));
  const running = [...snapshot.running];
  for (const { sessionId, kernels } of plan.placements) {
    const session = waiting.get(sessionId);
    if (!session || !waiting.delete(sessionId)) continue;
    const placed = kernels.map(({ kernelId, agentId }) => {
      const slots = session.kernels.find((kernel) => kernel.kernelId === kernelId)?.slots ?? {};
      used.set(agentId, addSlots(used.get(agentId) ?? {}, slots));
      return { kernelId, agentId, slots };
    });
    running.push({ sessionId, resourceGroup: session.resourceGroup, owner: session.owner, kernels: placed });
  }
  return {
    ...snapshot,
    agents: snapshot.agents.map((agent) => ({ ...agent, used: used.get(agent.id) ?? agent.used })),
    pending: [...waiting.values()],
    running,
  };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
