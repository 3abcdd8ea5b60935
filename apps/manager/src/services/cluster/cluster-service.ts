import type { ClusterStatus, UserActor } from '@backend.ai/contract';
import { addSlots, type ResourceSlots, slotsFromTexts, slotsToTexts } from '@backend.ai/core';
import type { AgentRecord, AgentRepository } from '../../repositories/agents.ts';
import { toAgentView } from '../agents/agent-view.ts';
import type { SessionService } from '../sessions/session-service.ts';
import type { MachineStatistics } from '../statistics/machine-statistics.ts';

export interface ClusterFacts {
  readonly version: string;
  readonly startedAt: string;
  readonly embedded: boolean;
}

export class ClusterService {
  readonly #agents: AgentRepository;
  readonly #sessions: SessionService;
  readonly #machines: MachineStatistics;
  readonly #facts: ClusterFacts;

  constructor(agents: AgentRepository, sessions: SessionService, machines: MachineStatistics, facts: ClusterFacts) {
    this.#agents = agents;
    this.#sessions = sessions;
    this.#machines = machines;
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
      agents: await Promise.all(records.map(async (agent) => toAgentView(agent, await this.#machines.find(agent.id)))),
      capacity: total((agent) => agent.capacity),
      used: total((agent) => agent.used),
      sessions,
    };
  }
}
