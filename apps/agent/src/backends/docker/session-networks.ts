import { readFileSync } from 'node:fs';
import { AppError } from '@backend.ai/core';
import { type Engine, refusalOf } from './engine.ts';
import type { Firewall } from './firewall.ts';
import { labels, networkName, type Owner, ownedBy, sessionLabels } from './labels.ts';
import { formatSubnet, freeSubnet, parseSubnet, routedSubnets, type Subnet } from './subnet-pool.ts';

export interface SessionNetworksOptions {
  readonly engine: Engine;
  readonly owner: Owner;
  /** Where networks of sessions get their addresses, and how many bits are given to each. */
  readonly pool: Subnet;
  readonly prefix: number;
  /** Null: nothing keeps containers from this machine. */
  readonly firewall: Firewall | null;
}

/** Others may take an address range in the moment between looking and making. */
const tries = 8;

/**
 * A bridge for each session: its kernels reach one another by name, and nobody else's. It stands as long as the session
 * has a kernel here.
 */
export class SessionNetworks {
  readonly #options: SessionNetworksOptions;
  readonly #users = new Map<string, Set<string>>();
  /** One after the other: a range must not be found free twice, nor a network removed while a kernel comes to it. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: SessionNetworksOptions) {
    this.#options = options;
  }

  nameOf(sessionId: string): string {
    return networkName(this.#options.owner.installationId, sessionId);
  }

  /** Of a kernel that was found after a restart. */
  hold(sessionId: string, kernelId: string): void {
    const users = this.#users.get(sessionId) ?? new Set();
    this.#users.set(sessionId, users.add(kernelId));
  }

  /**
   * @throws AppError `insufficient-capacity` when no address range is left, `isolation-unavailable`, `engine-failed`,
   * `engine-unavailable`
   */
  async join(sessionId: string, kernelId: string, signal: AbortSignal): Promise<void> {
    await this.#alone(async () => {
      this.hold(sessionId, kernelId);
      // Others may have flushed its rules since the last time.
      await this.#options.firewall?.ensure();
      await this.#ensure(sessionId, signal);
    });
  }

  /** Removes it with the last kernel of the session. */
  async leave(sessionId: string, kernelId: string): Promise<void> {
    await this.#alone(async () => {
      const users = this.#users.get(sessionId);
      if (users && [...users].some((each) => each !== kernelId)) {
        users.delete(kernelId);
        return;
      }
      await this.#options.engine.removeNetwork(this.nameOf(sessionId));
      this.#users.delete(sessionId);
    });
  }

  /** Those that no kernel uses that we know of. */
  async unused(): Promise<Array<{ readonly name: string; readonly createdAt: number; remove(): Promise<void> }>> {
    const { engine, owner } = this.#options;
    const networks = await engine.listNetworks(ownedBy(owner.installationId));
    return networks
      .filter(({ Labels }) => !this.#users.has(Labels?.[labels.session] ?? ''))
      .map(({ Id, Name, Created, Labels }) => ({
        name: Name,
        createdAt: Date.parse(Created),
        remove: () =>
          this.#alone(async () => {
            if (!this.#users.has(Labels?.[labels.session] ?? '')) await engine.removeNetwork(Id);
          }),
      }));
  }

  async #ensure(sessionId: string, signal: AbortSignal): Promise<void> {
    const { engine, owner, pool, prefix } = this.#options;
    const name = this.nameOf(sessionId);
    const refused: Subnet[] = [];
    for (let tried = 0; tried < tries; tried++) {
      const present = await engine.listNetworks();
      if (present.some(({ Name }) => Name === name)) return;
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
        return;
      } catch (error) {
        // Somebody was quicker: with this range, or with this very network.
        if (![403, 409].includes(refusalOf(error) ?? 0) || tried === tries - 1) throw error;
        refused.push(subnet);
      }
    }
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

function subnetsOf({
  IPAM,
}: {
  readonly IPAM?: { readonly Config?: ReadonlyArray<{ Subnet?: string }> | null | undefined } | undefined;
}): Subnet[] {
  return (IPAM?.Config ?? []).flatMap(({ Subnet = '' }) => parseSubnet(Subnet) ?? []);
}

function readRoutes(): Subnet[] {
  try {
    return routedSubnets(readFileSync('/proc/net/route', 'latin1'));
  } catch {
    // Not Linux, or hidden: the engine refuses what it knows to be taken.
    return [];
  }
}
