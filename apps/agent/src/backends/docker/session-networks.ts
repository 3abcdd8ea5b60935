import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { EgressPolicy } from '@backend.ai/contract';
import { AppError, formatSubnet, Lane, type Subnet } from '@backend.ai/core';
import { type Engine, refusalOf } from './engine.ts';
import type { Firewall } from './firewall.ts';
import type { GuardedNetwork } from './firewall-rules.ts';
import { labels, networkName, type Owner, ownedBy, sessionLabels } from './labels.ts';
import { freeSubnet } from './subnet-pool.ts';
import { type NetworkInfo, readRoutes, subnetsOf } from './taken-subnets.ts';

export interface SessionNetworksOptions {
  readonly engine: Engine;
  readonly owner: Owner;
  /** Where networks of sessions get their addresses, and how many bits are given to each. */
  readonly pool: Subnet;
  readonly prefix: number;
  /** Null: nothing keeps containers from this machine. */
  readonly firewall: Firewall | null;
}

/** A session with kernels on this agent. */
interface SessionHere {
  readonly kernels: Set<string>;
  readonly egress: EgressPolicy;
}

/** Others may take an address range in the moment between looking and making. */
const tries = 8;

/**
 * A bridge for each session: its kernels reach one another by name, and nobody else's. It stands as long as the session
 * has a kernel here.
 */
export class SessionNetworks {
  readonly #options: SessionNetworksOptions;
  readonly #sessions = new Map<string, SessionHere>();
  /** One after the other: a range must not be found free twice, nor a network removed while a kernel comes to it. */
  readonly #orders = new Lane();

  constructor(options: SessionNetworksOptions) {
    this.#options = options;
  }

  nameOf(sessionId: string): string {
    return networkName(this.#options.owner.installationId, sessionId);
  }

  /**
   * Whether networks are made where this process is: the firewall of another network namespace than the engine's guards
   * nothing. Seen by a route to one of ours, made for that if need be, as no engine tells.
   */
  async areMadeHere(): Promise<boolean> {
    const { engine, owner } = this.#options;
    return await this.#orders.follow(async () => {
      const [present] = await engine.listNetworks(ownedBy(owner.installationId));
      if (present) return subnetsOf(present).some(isRouted);
      const probe = randomUUID();
      try {
        return (await this.#ensure(probe, new AbortController().signal)).some(isRouted);
      } finally {
        await engine.removeNetwork(this.nameOf(probe));
      }
    });
  }

  /** Of a kernel that was found after a restart; `guard` follows when all are. */
  hold(sessionId: string, kernelId: string, egress: EgressPolicy): void {
    const session = this.#sessions.get(sessionId) ?? { kernels: new Set(), egress };
    session.kernels.add(kernelId);
    this.#sessions.set(sessionId, session);
  }

  /**
   * Puts the rules of all networks in place that are in use, which somebody may have flushed.
   * @throws AppError `isolation-unavailable`
   */
  async guard(): Promise<void> {
    await this.#orders.follow(() => this.#guard());
  }

  /**
   * @throws AppError `insufficient-capacity` when no address range is left, `state-conflict` when its session has kernels
   * here with another egress policy, `isolation-unavailable`, `engine-failed`, `engine-unavailable`
   */
  async join(sessionId: string, kernelId: string, egress: EgressPolicy, signal: AbortSignal): Promise<void> {
    await this.#orders.follow(async () => {
      const present = this.#sessions.get(sessionId);
      if (present && !isDeepStrictEqual(present.egress, egress)) {
        throw new AppError('state-conflict', 'Kernels of this session are here with another egress policy.', {
          hint: 'The policy of the resource group was changed in between: start the session anew.',
        });
      }
      this.hold(sessionId, kernelId, egress);
      await this.#ensure(sessionId, signal);
      await this.#guard();
    });
  }

  /** Removes it with the last kernel of the session. */
  async leave(sessionId: string, kernelId: string): Promise<void> {
    await this.#orders.follow(async () => {
      const kernels = this.#sessions.get(sessionId)?.kernels ?? new Set();
      if ([...kernels].some((each) => each !== kernelId)) {
        kernels.delete(kernelId);
        return;
      }
      const { engine, owner } = this.#options;
      const name = this.nameOf(sessionId);
      const found = (await engine.listNetworks(ownedBy(owner.installationId))).find(({ Name }) => Name === name);
      if (found) await this.#remove(found);
      this.#sessions.delete(sessionId);
    });
  }

  /** Those that no kernel uses that we know of. */
  async unused(): Promise<Array<{ readonly name: string; readonly createdAt: number; remove(): Promise<void> }>> {
    const { engine, owner } = this.#options;
    const networks = await engine.listNetworks(ownedBy(owner.installationId));
    return networks
      .filter((network) => !this.#isUsed(network))
      .map((network) => ({
        name: network.Name,
        createdAt: Date.parse(network.Created),
        remove: () =>
          this.#orders.follow(async () => {
            if (!this.#isUsed(network)) await this.#remove(network);
          }),
      }));
  }

  #isUsed({ Labels }: NetworkInfo): boolean {
    return this.#sessions.has(Labels?.[labels.session] ?? '');
  }

  async #guard(): Promise<void> {
    const { engine, owner, firewall } = this.#options;
    if (!firewall) return;
    const networks = await engine.listNetworks(ownedBy(owner.installationId));
    await firewall.ensure(
      networks.flatMap((network): GuardedNetwork[] => {
        const session = this.#sessions.get(network.Labels?.[labels.session] ?? '');
        const bridge = bridgeOf(network);
        return session ? subnetsOf(network).map((subnet) => ({ subnet, bridge, egress: session.egress })) : [];
      }),
    );
  }

  /** Its rules first, as it has no containers any more: afterwards its addresses may be those of another one. */
  async #remove(network: NetworkInfo): Promise<void> {
    const { engine, firewall } = this.#options;
    await firewall?.release(bridgeOf(network));
    await engine.removeNetwork(network.Id);
  }

  /** Answers the ranges of its addresses. */
  async #ensure(sessionId: string, signal: AbortSignal): Promise<Subnet[]> {
    const { engine, owner, pool, prefix } = this.#options;
    const name = this.nameOf(sessionId);
    const refused: Subnet[] = [];
    for (let tried = 1; ; tried++) {
      const present = await engine.listNetworks();
      const found = present.find(({ Name }) => Name === name);
      if (found) return subnetsOf(found);
      const subnet = freeSubnet(pool, prefix, [...present.flatMap(subnetsOf), ...readRoutes(), ...refused]);
      if (!subnet) {
        throw new AppError(
          'insufficient-capacity',
          'This agent has no address range left for the network of a session.',
          {
            data: { pool: formatSubnet(pool), prefix },
            hint: 'End sessions, or give the agent a larger docker.subnet-pool.',
          },
        );
      }
      try {
        await engine.createNetwork(
          {
            Name: name,
            CheckDuplicate: true,
            Driver: 'bridge',
            // The firewall knows the addresses of the pool only.
            EnableIPv6: false,
            Labels: sessionLabels(owner, sessionId),
            IPAM: { Driver: 'default', Config: [{ Subnet: formatSubnet(subnet) }] },
          },
          signal,
        );
        return [subnet];
      } catch (error) {
        // Somebody was quicker: with this range, or with this very network.
        if (![403, 409].includes(refusalOf(error) ?? 0) || tried === tries) throw error;
        refused.push(subnet);
      }
    }
  }
}

/** As the engine names the interface of a network that was given no name for it. */
function bridgeOf({ Id, Options }: NetworkInfo): string {
  return Options?.['com.docker.network.bridge.name'] ?? `br-${Id.slice(0, 12)}`;
}

function isRouted(subnet: Subnet): boolean {
  return readRoutes().some((route) => isDeepStrictEqual(route, subnet));
}
