import { addSlots, type ResourceSlots } from '@backend.ai/core';
import { Cluster } from './cluster.ts';
import { runPass } from './pass.ts';
import type { PlacedKernel, Plan } from './plan.ts';
import type { AgentSnapshot, PendingSession, RunningSession, Snapshot } from './snapshot.ts';

/**
 * Which waiting sessions go where now, and why the others wait.
 *
 * Pure: equal snapshots give equal plans, whatever the order of their lists.
 */
export function schedule(snapshot: Snapshot): Plan {
  return runPass(new Cluster(snapshot), snapshot.now);
}

/** The snapshot after a plan was carried out and victims have left: for tests and simulations. */
export function applyPlan(snapshot: Snapshot, plan: Plan): Snapshot {
  const pending = new Map(snapshot.pending.map((session) => [session.sessionId, session]));
  const running = new Map(snapshot.running.map((session) => [session.sessionId, session]));
  const agents = new Map(snapshot.agents.map((agent) => [agent.id, agent]));
  for (const { victims } of plan.reservations) {
    for (const { sessionId } of victims) {
      for (const { agentId, slots } of running.get(sessionId)?.kernels ?? []) {
        const agent = agents.get(agentId);
        if (agent) agents.set(agentId, withKernel(agent, negative(slots), -1));
      }
      running.delete(sessionId);
    }
  }
  for (const { sessionId, kernels } of [...plan.placements, ...plan.reservations]) {
    const session = pending.get(sessionId);
    if (!session || !pending.delete(sessionId)) continue;
    const started = startedSession(session, kernels, snapshot.now);
    running.set(sessionId, started);
    for (const { agentId, kernelId, slots } of started.kernels) {
      const agent = agents.get(agentId);
      if (agent) agents.set(agentId, withoutWarmSlot(withKernel(agent, slots, 1), kernelId));
    }
  }
  const groups = snapshot.groups.map((group) => {
    const next = plan.roundRobin[group.name];
    return next === undefined ? group : { ...group, roundRobin: next };
  });
  return {
    ...snapshot,
    groups,
    agents: [...agents.values()],
    pending: [...pending.values()],
    running: [...running.values()],
  };
}

/** A waiting session once its kernels are with agents. */
export function startedSession(
  session: PendingSession,
  placed: readonly PlacedKernel[],
  startedAt: number | undefined,
): RunningSession {
  const placeOf = new Map(placed.map((place) => [place.kernelId, place]));
  const { sessionId, resourceGroup, owner, priority, jobPriority, isPreemptible, timeLimitMs } = session;
  return {
    sessionId,
    resourceGroup,
    owner,
    kernels: session.kernels.flatMap(({ kernelId, slots }) => {
      const place = placeOf.get(kernelId);
      return place === undefined ? [] : [{ kernelId: place.warmSlot ?? kernelId, agentId: place.agentId, slots }];
    }),
    priority,
    ...(session.private === undefined ? {} : { private: session.private }),
    ...(jobPriority === undefined ? {} : { jobPriority }),
    ...(isPreemptible === undefined ? {} : { isPreemptible }),
    ...(timeLimitMs === undefined ? {} : { timeLimitMs }),
    ...(startedAt === undefined ? {} : { startedAt }),
  };
}

/** An agent with `count` kernels more that hold `slots` together. */
export function withKernel(agent: AgentSnapshot, slots: ResourceSlots, count: number): AgentSnapshot {
  return { ...agent, used: addSlots(agent.used, slots), kernelCount: Math.max(0, (agent.kernelCount ?? 0) + count) };
}

/** An agent without a slot that has become a kernel. */
export function withoutWarmSlot(agent: AgentSnapshot, slotId: string): AgentSnapshot {
  const { warmSlots } = agent;
  if (!warmSlots?.some((slot) => slot.slotId === slotId)) return agent;
  return { ...agent, warmSlots: warmSlots.filter((slot) => slot.slotId !== slotId) };
}

export function negative(slots: ResourceSlots): ResourceSlots {
  return Object.fromEntries(Object.entries(slots).map(([name, amount]) => [name, -amount]));
}
