import { isDeepStrictEqual } from 'node:util';
import type { SwarmNode } from '@backend.ai/contract';
import { type Clock, formatSubnet, type Subnet } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { Engine, EngineInfo } from './engine.ts';
import { vxlanPort } from './firewall-rules.ts';
import { overlap } from './subnet-pool.ts';

/**
 * What an engine tells of its swarm; undefined: it is in none, or cannot share networks. One whose swarm carries networks on
 * another port than the usual is not asked to make any: firewalls of agents keep containers from the usual one.
 */
export function swarmNodeOf({ Swarm: swarm, SecurityOptions }: EngineInfo): SwarmNode | undefined {
  const isRootless = (SecurityOptions ?? []).some((option) => option.includes('rootless'));
  if (swarm?.LocalNodeState !== 'active' || isRootless || !swarm.NodeID) return undefined;
  const { ID: swarmId, DataPathPort = vxlanPort } = swarm.Cluster ?? {};
  const manages = swarm.ControlAvailable === true && swarmId && [0, vxlanPort].includes(DataPathPort);
  return {
    nodeId: swarm.NodeID,
    managers: (swarm.RemoteManagers ?? []).map(({ NodeID }) => NodeID).sort(),
    ...(manages ? { swarmId } : {}),
  };
}

export interface SwarmMembershipOptions {
  readonly engine: Pick<Engine, 'info'>;
  /** Where the networks of sessions on this machine get their addresses, and those over the swarm. */
  readonly pool: Subnet;
  readonly clusterPool: Subnet;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How often the engine is asked, in milliseconds: people make swarms of engines that run. */
  readonly tickMs: number;
}

/**
 * The swarm of the engine, as it was told last. It is of no use, and nobody hears of it, where its networks could get
 * addresses that those of this machine have: kernels would not reach one or the other.
 */
export class SwarmMembership {
  readonly #options: SwarmMembershipOptions;
  readonly #loop: ReconcileLoop;
  #node: SwarmNode | undefined;
  #hasWarned = false;

  constructor(options: SwarmMembershipOptions) {
    this.#options = options;
    const { clock, logger, tickMs } = options;
    this.#loop = new ReconcileLoop({ name: 'look at the swarm', tickMs, clock, logger, run: () => this.look() });
  }

  /** Another object whenever it has changed. */
  get node(): SwarmNode | undefined {
    return this.#node;
  }

  start(): void {
    this.#loop.start();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  /** @throws what the engine says when it cannot be asked; then it stays as it was */
  async look(): Promise<void> {
    const { engine, pool, clusterPool } = this.#options;
    const found = swarmNodeOf(await engine.info());
    const isUsable = !overlap(pool, clusterPool);
    if (found && !isUsable) this.#warn();
    const node = isUsable ? found : undefined;
    if (!isDeepStrictEqual(node, this.#node)) this.#node = node;
  }

  #warn(): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const { logger, pool, clusterPool } = this.#options;
    logger.warn('no sessions over the swarm: docker.subnet-pool and docker.cluster-subnet-pool overlap', {
      'docker.subnet-pool': formatSubnet(pool),
      'docker.cluster-subnet-pool': formatSubnet(clusterPool),
    });
  }
}
