import { AppError, type ErrorCode, hasCode, Lanes } from '@backend.ai/core';
import type { AgentApi, AgentClients } from '../../clients/agent-clients.ts';
import type { ClusterNetworkRecord, ClusterNetworkRepository } from '../../repositories/cluster-networks.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import { Swarms } from '../agents/swarms.ts';

export interface ClusterNetworksOptions {
  readonly networks: Pick<ClusterNetworkRepository, 'record' | 'forget'>;
  readonly directory: Pick<AgentDirectory, 'list'>;
  readonly clients: Pick<AgentClients, 'call'>;
}

/** An agent that answers so says nothing of the swarm: another one may manage it. */
const notThere: readonly ErrorCode[] = ['agent-unreachable', 'engine-unavailable', 'unsupported-feature'];
/** To remove a network fails in the same way everywhere while it is in use; to make one may fail at one engine only. */
const notMadeThere: readonly ErrorCode[] = [...notThere, 'engine-failed'];

/**
 * Networks by which containers of one session on several machines reach each other: made by an agent whose engine manages
 * the swarm of all of them. They are written down before they are ordered, so that after a crash somebody removes them.
 */
export class ClusterNetworks {
  readonly #options: ClusterNetworksOptions;
  /** By session, one order after the other: what is removed must not be made by an order that is still under way. */
  readonly #turns = new Lanes<string>();
  /** By session and swarm, orders to make a network that no removal followed: all kernels of a session need one at once. */
  readonly #making = new Map<string, Promise<string>>();

  constructor(options: ClusterNetworksOptions) {
    this.#options = options;
  }

  /**
   * The name of the network, for a session with kernels on these agents. Undefined: they need none, or have no swarm in
   * common; then the agents refuse to start containers of it.
   * @throws AppError `state-conflict` when the session ends or has ended, and what the agent answered
   */
  async ensure(sessionId: string, agentIds: readonly string[], epoch: number): Promise<string | undefined> {
    const wanted = new Set(agentIds);
    if (wanted.size < 2) return undefined;
    const agents = await this.#options.directory.list();
    const swarms = new Swarms(agents);
    const found = agents.filter(({ id }) => wanted.has(id)).map((agent) => swarms.swarmOf(agent));
    const [swarmId] = found;
    if (!swarmId || found.length < wanted.size || found.some((other) => other !== swarmId)) return undefined;
    const network = { sessionId, swarmId };
    const key = keyOf(network);
    const underWay = this.#making.get(key);
    if (underWay) return await underWay;
    const making = this.#turns.follow(sessionId, () => this.#make(swarms, network, epoch));
    this.#making.set(key, making);
    try {
      return await making;
    } finally {
      if (this.#making.get(key) === making) this.#making.delete(key);
    }
  }

  async #make(swarms: Swarms, network: ClusterNetworkRecord, epoch: number): Promise<string> {
    if (!(await this.#options.networks.record(network, epoch))) {
      throw new AppError('state-conflict', 'The session needs no network any more.');
    }
    const { sessionId } = network;
    const made = await this.#ask(swarms, network, notMadeThere, (api) =>
      api.ensureClusterNetwork.mutate({ sessionId }, { context: { epoch } }),
    );
    return made.network;
  }

  /**
   * It stays for another time while no agent manages its swarm.
   * @param signal Ends the wait for the agent, which may go on with it.
   * @throws AppError what the agent answered
   */
  async remove(network: ClusterNetworkRecord, epoch: number, signal: AbortSignal): Promise<void> {
    const { sessionId } = network;
    this.#making.delete(keyOf(network));
    await this.#turns.follow(sessionId, async () => {
      const swarms = new Swarms(await this.#options.directory.list());
      if (swarms.managersOf(network.swarmId).length === 0) return;
      await this.#ask(swarms, network, notThere, (api) =>
        api.removeClusterNetwork.mutate({ sessionId }, { signal, context: { epoch } }),
      );
      await this.#options.networks.forget(network);
    });
  }

  /** The first of them that can do it: all of them speak for the whole swarm. */
  async #ask<T>(
    swarms: Swarms,
    { swarmId }: ClusterNetworkRecord,
    passedOn: readonly ErrorCode[],
    work: (api: AgentApi) => Promise<T>,
  ): Promise<T> {
    let failure = new AppError('agent-unreachable', 'No agent with an engine that manages the swarm is reachable.', {
      data: { swarm: swarmId },
    });
    for (const agentId of swarms.managersOf(swarmId)) {
      try {
        return await this.#options.clients.call(agentId, work);
      } catch (error) {
        if (!hasCode(error, ...passedOn)) throw error;
        failure = error;
      }
    }
    throw failure;
  }
}

function keyOf({ sessionId, swarmId }: ClusterNetworkRecord): string {
  return `${sessionId} ${swarmId}`;
}
