import { amountToText, lackingSlots, subtractSlots } from '@backend.ai/core';
import { hasImages, requestOf } from './schedule.ts';
import type { AgentSnapshot, PendingSession } from './snapshot.ts';

export type AgentObstacle =
  | 'other-resource-group'
  | 'not-alive'
  | 'not-schedulable'
  | 'image-absent'
  | 'lacks-resources';

/** What stands between one session and one agent. */
export interface AgentExplanation {
  readonly agentId: string;
  /** Empty: the next pass can place it there. */
  readonly obstacles: readonly AgentObstacle[];
  readonly lacking: Readonly<
    Record<string, { readonly asked: string; readonly free: string; readonly capacity: string }>
  >;
}

/** Detail per agent, derived when somebody asks; only the code of the reason is stored. */
export function explain(session: PendingSession, agents: readonly AgentSnapshot[]): AgentExplanation[] {
  const wanted = requestOf(session);
  return [...agents]
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .map((agent) => {
      const free = subtractSlots(agent.capacity, agent.used);
      const lackingNames = lackingSlots(wanted, free);
      const obstacles: AgentObstacle[] = [];
      if (agent.resourceGroup !== session.resourceGroup) obstacles.push('other-resource-group');
      if (agent.status !== 'ALIVE') obstacles.push('not-alive');
      if (!agent.schedulable) obstacles.push('not-schedulable');
      if (!hasImages(agent, session)) obstacles.push('image-absent');
      if (lackingNames.length > 0) obstacles.push('lacks-resources');
      const lacking = Object.fromEntries(
        lackingNames.map((name) => [
          name,
          {
            asked: amountToText(wanted[name] ?? 0n),
            free: amountToText((free[name] ?? 0n) > 0n ? (free[name] ?? 0n) : 0n),
            capacity: amountToText(agent.capacity[name] ?? 0n),
          },
        ]),
      );
      return { agentId: agent.id, obstacles, lacking };
    });
}
