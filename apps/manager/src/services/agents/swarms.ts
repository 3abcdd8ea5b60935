import type { AgentRecord } from '../../repositories/agents.ts';

/** What decides where containers of one session reach each other. */
export type SwarmMember = Pick<AgentRecord, 'id' | 'status' | 'backend' | 'swarm'>;

/**
 * The swarms that agents can make networks in. A node knows the name of its swarm only if it manages it: of others it is
 * found by the managers that they name.
 */
export class Swarms {
  /** By their node, agents that make networks, in order of their ids. */
  readonly #managers: ReadonlyMap<string, { readonly agentId: string; readonly swarmId: string }>;

  constructor(agents: readonly SwarmMember[]) {
    const managers = agents
      .filter(({ status }) => status === 'ALIVE')
      .flatMap(({ id: agentId, swarm }) =>
        swarm?.swarmId === undefined ? [] : [[swarm.nodeId, { agentId, swarmId: swarm.swarmId }] as const],
      );
    this.#managers = new Map(managers.sort(([, a], [, b]) => (a.agentId < b.agentId ? -1 : 1)));
  }

  /** Null: none in which a network can be made now. */
  swarmOf({ swarm }: Pick<SwarmMember, 'swarm'>): string | null {
    if (!swarm) return null;
    for (const node of [swarm.nodeId, ...swarm.managers]) {
      const manager = this.#managers.get(node);
      if (manager) return manager.swarmId;
    }
    return null;
  }

  /** Agents that can be told to make a network of a swarm, or to remove one. */
  managersOf(swarmId: string): string[] {
    return [...this.#managers.values()].flatMap((manager) => (manager.swarmId === swarmId ? [manager.agentId] : []));
  }

  /**
   * What agents have in common on which the kernels of one session reach each other. Processes do so at the addresses of
   * their machines: undefined. Containers do so in a swarm, and else on one machine only.
   */
  clusterNetworkOf(agent: SwarmMember): string | undefined {
    if (agent.backend !== 'docker') return undefined;
    const swarmId = this.swarmOf(agent);
    return swarmId === null ? `agent ${agent.id}` : `swarm ${swarmId}`;
  }
}
