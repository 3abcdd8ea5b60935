import { isDeepStrictEqual } from 'node:util';
import type { SwarmNode } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { Engine, EngineInfo } from './engine.ts';
import { vxlanPort } from './firewall-rules.ts';

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
  readonly clock: Clock;
  readonly logger: Logger;
  /** How often the engine is asked, in milliseconds: people make swarms of engines that run. */
  readonly tickMs: number;
}

/** The swarm of the engine, as it was told last. */
export class SwarmMembership {
  readonly #options: SwarmMembershipOptions;
  readonly #loop: ReconcileLoop;
  #node: SwarmNode | undefined;

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
    const node = swarmNodeOf(await this.#options.engine.info());
    if (!isDeepStrictEqual(node, this.#node)) this.#node = node;
  }
}
