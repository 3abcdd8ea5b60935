import type { ClusterStatus, UserActor } from '@backend.ai/contract';
import { addSlots, type ResourceSlots, slotsFromTexts, slotsToTexts } from '@backend.ai/core';
import type { AgentRecord, AgentRepository } from '../../repositories/agents.ts';
import { toAgentView } from '../agents/agent-view.ts';
import type { SessionService } from '../sessions/session-service.ts';

export interface ClusterFacts {
  readonly version: string;
  readonly startedAt: string;
  readonly embedded: boolean;
}

export class ClusterService {
  readonly #agents: AgentRepository;
  readonly #sessions: SessionService;
  readonly #facts: ClusterFacts;

  constructor(agents: AgentRepository, sessions: SessionService, facts: ClusterFacts) {
    this.#agents = agents;
    this.#sessions = sessions;
    this.#facts = facts;
  }

  /** Read anew: what agents have in use is asked for by people who want the present. */
  async status(actor: UserActor): Promise<ClusterStatus> {
    const [records, sessions] = await Promise.all([this.#agents.list(), this.#sessions.countByStatus(actor)]);
    const alive = records.filter((agent) => agent.status === 'ALIVE');
    const total = (of: (agent: AgentRecord) => Record<string, string>): Record<string, string> =>
      slotsToTexts(alive.reduce<ResourceSlots>((sum, agent) => addSlots(sum, slotsFromTexts(of(agent))), {}));
    return {
      ...this.#facts,
      agents: records.map(toAgentView),
      capacity: total((agent) => agent.capacity),
      used: total((agent) => agent.used),
      sessions,
    };
  }
}
