import { amountFromText, slotsFromTexts } from '@backend.ai/core';
import type { Change, Remedy } from './remedies.ts';
import { negative, withKernel } from './schedule.ts';
import type { AgentSnapshot, PendingSession, Quota, Snapshot } from './snapshot.ts';

/** The snapshot once all changes have come about: a plan for it shows that the session starts. */
export function applyRemedy(snapshot: Snapshot, sessionId: string, remedy: Remedy): Snapshot {
  return remedy.reduce((before, change) => applyChange(before, sessionId, change), snapshot);
}

function applyChange(snapshot: Snapshot, sessionId: string, change: Change): Snapshot {
  const session = snapshot.pending.find((other) => other.sessionId === sessionId);
  if (!session) return snapshot;
  const withSession = (changed: PendingSession): Snapshot => ({
    ...snapshot,
    pending: snapshot.pending.map((other) => (other === session ? changed : other)),
  });
  switch (change.kind) {
    case 'wait-until':
      return { ...snapshot, now: Math.max(snapshot.now, change.at) };
    case 'wait-for-dependencies':
    case 'drop-dependencies':
      return withSession({
        ...session,
        dependencies: (session.dependencies ?? []).filter((other) => !change.sessions.includes(other.sessionId)),
      });
    case 'raise-quota':
      return { ...snapshot, quotas: snapshot.quotas.map((quota) => raised(quota, change)) };
    case 'go-first':
      return withSession({ ...session, priority: change.priority });
    case 'wait-for-queue':
      return {
        ...snapshot,
        pending: snapshot.pending.filter((other) => other === session || other.priority < session.priority),
      };
    case 'wait-for-sessions':
      return change.sessions.reduce(withoutSession, snapshot);
    case 'reduce-request':
      return withSession({
        ...session,
        kernels: session.kernels.map((kernel) =>
          kernel.kernelId === change.kernelId
            ? { ...kernel, slots: { ...kernel.slots, [change.slot]: amountFromText(change.to) } }
            : kernel,
        ),
      });
    case 'add-agent':
      return { ...snapshot, agents: [...snapshot.agents, ...addedAgents(session.resourceGroup, change)] };
    case 'drop-designation': {
      const { designated: _, ...rest } = session;
      return withSession(rest);
    }
    case 'raise-kernel-limit':
      return {
        ...snapshot,
        groups: snapshot.groups.map((group) =>
          group.name === session.resourceGroup ? { ...group, maxKernelsPerAgent: change.to } : group,
        ),
      };
  }
}

function raised(quota: Quota, { scope, id, slot, to }: Extract<Change, { kind: 'raise-quota' }>): Quota {
  if (quota.scope !== scope || quota.id !== id) return quota;
  if (slot === 'sessions') return { ...quota, maxSessions: Number(to) };
  if (slot === 'private-sessions') return { ...quota, maxPrivateSessions: Number(to) };
  return { ...quota, limits: { ...quota.limits, [slot]: amountFromText(to) } };
}

function withoutSession(snapshot: Snapshot, sessionId: string): Snapshot {
  const ended = snapshot.running.find((session) => session.sessionId === sessionId);
  if (!ended) return snapshot;
  const agents = snapshot.agents.map((agent) =>
    ended.kernels
      .filter((kernel) => kernel.agentId === agent.id)
      .reduce((left, kernel) => withKernel(left, negative(kernel.slots), -1), agent),
  );
  return { ...snapshot, agents, running: snapshot.running.filter((session) => session !== ended) };
}

function addedAgents(resourceGroup: string, change: Extract<Change, { kind: 'add-agent' }>): AgentSnapshot[] {
  return Array.from({ length: change.count }, (_, index) => ({
    id: `added-${change.architecture}-${index + 1}`,
    status: 'ALIVE',
    schedulable: true,
    resourceGroup,
    architecture: change.architecture,
    images: change.images,
    enforcesEgress: true,
    capacity: slotsFromTexts(change.slots),
    used: {},
  }));
}
