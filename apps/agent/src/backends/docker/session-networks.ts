import { isDeepStrictEqual } from 'node:util';
import { type EgressPolicy, openEgress } from '@backend.ai/contract';
import { AppError, type Clock, Lane, Lanes, newId, type Subnet, within } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { Engine } from './engine.ts';
import type { Firewall } from './firewall.ts';
import type { GuardedNetwork } from './firewall-rules.ts';
import { networkName, type Owner, ownedBy } from './labels.ts';
import {
  ensureNetwork,
  isInUse,
  type NetworkMakings,
  type SessionNetwork,
  sessionNetworkOf,
} from './session-network.ts';
import { closeMs, SpareNetworks } from './spare-networks.ts';
import { readRoutes } from './taken-subnets.ts';

export interface SessionNetworksOptions {
  readonly engine: Pick<Engine, 'listNetworks' | 'inspectNetwork' | 'createNetwork' | 'removeNetwork'>;
  readonly owner: Owner;
  /** Where networks of sessions get their addresses, and how many bits are given to each. */
  readonly pool: Subnet;
  readonly prefix: number;
  /** How many networks are to be ready for sessions to come. */
  readonly spares: number;
  /** Null: nothing keeps containers from this machine. */
  readonly firewall: Firewall | null;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A session with kernels on this agent. */
interface SessionHere {
  readonly kernels: Set<string>;
  readonly egress: EgressPolicy;
  /** Of its network in the engine. */
  readonly name: string;
  /** Null: whether the engine has it is not known. */
  network: SessionNetwork | null;
}

/** Rules that somebody flushed are missing for so long. */
const guardEveryMs = 5_000;

/**
 * A bridge for each session: its kernels reach one another by name, and nobody else's. The session has it as long as it has
 * a kernel here. Some are ready before anybody needs them; afterwards a network is one of these again, or removed.
 *
 * Rules are put in place for all networks at once, from what is known here of who has which: every few seconds, and when a
 * network was joined that had others until then. A container may be made while that goes on, and is started when it has
 * ended (`guardFor`).
 */
export class SessionNetworks {
  readonly #options: SessionNetworksOptions;
  readonly #sessions = new Map<string, SessionHere>();
  readonly #spares: SpareNetworks;
  /** A network must not be removed while a kernel of its session comes to it. */
  readonly #orders = new Lanes<string>();
  readonly #makings: NetworkMakings;
  /** What was there is read before what is missing is put in place. */
  readonly #rules = new Lane();
  #guarding: Promise<void> | undefined;
  /** Policies that are in force, by name of the network. */
  readonly #inForce = new Map<string, EgressPolicy>();
  /** Names of networks that have been made, and for which no rule was put in place so far. */
  readonly #bare = new Set<string>();
  #guardingBare: Promise<void> | undefined;
  readonly #loop: ReconcileLoop;
  #isUnguarded = false;
  /** Name of the spare network that is to be made: an engine that did not answer may have made it all the same. */
  #begun: string | undefined;

  constructor(options: SessionNetworksOptions) {
    this.#options = options;
    this.#makings = { ...options, making: new Set() };
    this.#loop = new ReconcileLoop({
      ...{
        name: 'keep rules of networks in place',
        tickMs: guardEveryMs,
        clock: options.clock,
        logger: options.logger,
      },
      run: () => this.#guardAgain(),
    });
    this.#spares = new SpareNetworks({
      ...options,
      make: async () => {
        this.#begun ??= this.#newName();
        const name = this.#begun;
        this.#spares.add(await this.#make(name));
        this.#begun = undefined;
        await this.#guardBare();
      },
      remove: (network) => this.#remove(network),
    });
  }

  /** @throws AppError `internal` unless it has kernels here */
  nameOf(sessionId: string): string {
    const name = this.findName(sessionId);
    if (name === undefined) throw new AppError('internal', 'The session has no network here.');
    return name;
  }

  findName(sessionId: string): string | undefined {
    return this.#sessions.get(sessionId)?.name;
  }

  /**
   * Whether networks are made where this process is: the firewall of another network namespace than the engine's guards
   * nothing. Seen by a route to one of ours, made for that if need be, as no engine tells.
   */
  async areMadeHere(): Promise<boolean> {
    const [present] = await this.#owned();
    if (present) return isRouted(present);
    const probe = this.#newName();
    try {
      return isRouted(await ensureNetwork(probe, this.#makings));
    } finally {
      await this.#options.engine.removeNetwork(probe);
    }
  }

  /**
   * Of a kernel that was found after a restart; `adopt` follows when all are.
   * @param name Of the network that it was in. Null: it had come to none yet, or to one of the name that agents of a
   * former version gave, unless another kernel of its session says which.
   */
  hold(sessionId: string, kernelId: string, egress: EgressPolicy, name: string | null): void {
    const present = this.#sessions.get(sessionId);
    const kernels = present?.kernels ?? new Set();
    kernels.add(kernelId);
    const former = networkName(this.#options.owner.installationId, sessionId);
    this.#sessions.set(sessionId, { kernels, egress, name: name ?? present?.name ?? former, network: null });
  }

  /**
   * Takes over the networks that there are, also some that no kernel has, and puts their rules in place.
   * @throws AppError `isolation-unavailable`
   */
  async adopt(): Promise<void> {
    const sessions = new Map([...this.#sessions.values()].map((session) => [session.name, session]));
    for (const network of await this.#owned()) {
      const session = sessions.get(network.name);
      if (session) session.network = network;
      else await this.#spares.adopt(network);
    }
    await this.guard();
  }

  /** Has networks ready, and keeps the rules of all in place, from now on. */
  start(): void {
    this.#spares.start();
    if (this.#options.firewall) this.#loop.start();
  }

  /** Removes what no session has. */
  async close(): Promise<void> {
    await Promise.all([within(this.#options.clock, closeMs, this.#loop.stop()), this.#spares.close()]);
  }

  /** What is wrong for long is told once. */
  async #guardAgain(): Promise<void> {
    try {
      await this.guard();
      this.#isUnguarded = false;
    } catch (error) {
      if (!this.#isUnguarded) this.#options.logger.warn('rules of networks could not be put in place', { error });
      this.#isUnguarded = true;
    }
  }

  /**
   * Puts the rules of all networks in place as far as they are missing: those of networks that were joined since, and what
   * somebody may have flushed.
   * @throws AppError `isolation-unavailable`
   */
  guard(): Promise<void> {
    // One for all who ask before it begins.
    this.#guarding ??= this.#rules.follow(async () => {
      this.#guarding = undefined;
      const all = this.#wanted();
      // Until it has ended nothing is in force for sure: it may put in place what a session that joins meanwhile does not want.
      this.#inForce.clear();
      // From here on rules of them may be there, also if this fails.
      for (const { network } of all) this.#bare.delete(network.name);
      await this.#options.firewall?.ensure(all.flatMap(guarded));
      for (const { network, egress } of all) this.#inForce.set(network.name, egress);
    });
    return this.#guarding;
  }

  /**
   * Puts in place the rules of networks that never had any. That is half the work of `guard`, which looks at all rules of the
   * machine before.
   * @throws AppError `isolation-unavailable`
   */
  #guardBare(): Promise<void> {
    // One for all who ask before it begins.
    this.#guardingBare ??= this.#rules.follow(async () => {
      this.#guardingBare = undefined;
      const bare = this.#wanted().filter(({ network }) => this.#bare.has(network.name));
      if (bare.length === 0) return;
      for (const { network } of bare) this.#bare.delete(network.name);
      await this.#options.firewall?.add(bare.flatMap(guarded));
      for (const { network, egress } of bare) this.#inForce.set(network.name, egress);
    });
    return this.#guardingBare;
  }

  /** Whose networks are here, and what may be called from each. */
  #wanted(): Array<{ readonly network: SessionNetwork; readonly egress: EgressPolicy }> {
    const sessions = [...this.#sessions.values()].flatMap(({ network, egress }) =>
      network ? [{ network, egress }] : [],
    );
    return [...sessions, ...this.#spares.all().map((network) => ({ network, egress: openEgress }))];
  }

  /**
   * As `guard`, unless the rules of the session's network are in place already.
   * @throws AppError `isolation-unavailable`
   */
  async guardFor(sessionId: string): Promise<void> {
    const session = this.#sessions.get(sessionId);
    const isGuarded = (): boolean =>
      session !== undefined && isDeepStrictEqual(this.#inForce.get(session.name), session.egress);
    if (!isGuarded() && session && this.#bare.has(session.name)) await this.#guardBare();
    if (!isGuarded()) await this.guard();
  }

  /**
   * Fails unless the network of a session, on which a container runs, is where the firewall is.
   * @throws AppError `isolation-unavailable`
   */
  requireMadeHere(subnet: Subnet): void {
    if (!this.#options.firewall || hasRoute(subnet)) return;
    throw new AppError('isolation-unavailable', 'The container engine has its networks out of reach of the agent.', {
      hint: 'Run the agent in the network namespace of the engine, or accept that: docker.allow-unguarded = true.',
    });
  }

  /**
   * Answers the range of its addresses. Its rules are in place after the next `guardFor`, before which nothing may run in it.
   * @throws AppError `insufficient-capacity` when no address range is left, `state-conflict` when its session has kernels
   * here with another egress policy, `engine-failed`, `engine-unavailable`
   */
  async join(sessionId: string, kernelId: string, egress: EgressPolicy, signal: AbortSignal): Promise<Subnet> {
    return await this.#orders.follow(sessionId, async () => {
      const present = this.#sessions.get(sessionId);
      if (present && !isDeepStrictEqual(present.egress, egress)) {
        throw new AppError('state-conflict', 'Kernels of this session are here with another egress policy.', {
          hint: 'The policy of the resource group was changed in between: start the session anew.',
        });
      }
      const spare = present ? null : await this.#spares.take();
      const session = present ?? {
        ...{ kernels: new Set(), egress, network: spare },
        name: spare?.name ?? this.#newName(),
      };
      session.kernels.add(kernelId);
      this.#sessions.set(sessionId, session);
      session.network ??= await this.#make(session.name, signal);
      const [subnet] = session.network.subnets;
      if (!subnet) throw new AppError('engine-failed', 'The network of the session has no addresses.');
      return subnet;
    });
  }

  /** Gives it up with the last kernel of the session. */
  async leave(sessionId: string, kernelId: string): Promise<void> {
    await this.#orders.follow(sessionId, async () => {
      const session = this.#sessions.get(sessionId);
      if (!session) return;
      if ([...session.kernels].some((each) => each !== kernelId)) {
        session.kernels.delete(kernelId);
        return;
      }
      const network = session.network ?? (await this.#owned()).find(({ name }) => name === session.name);
      // Its rules are not put in place any more.
      session.network = null;
      if (network && !this.#spares.keep(network)) await this.#remove(network);
      this.#sessions.delete(sessionId);
    });
  }

  /** Those that no kernel uses that we know of, and that are not kept for others. */
  async unused(): Promise<Array<{ readonly name: string; readonly createdAt: number; remove(): Promise<void> }>> {
    return (await this.#owned())
      .filter((network) => !this.#isUsed(network))
      .map((network) => ({
        name: network.name,
        createdAt: network.createdAt,
        // A session may have come to it meanwhile.
        remove: async () => {
          if (!this.#isUsed(network)) await this.#removeEmpty(network);
        },
      }));
  }

  #isUsed({ name }: SessionNetwork): boolean {
    if (name === this.#begun || this.#spares.has(name)) return true;
    return [...this.#sessions.values()].some((session) => session.name === name);
  }

  #newName(): string {
    return networkName(this.#options.owner.installationId, newId());
  }

  async #make(name: string, signal?: AbortSignal): Promise<SessionNetwork> {
    const network = await ensureNetwork(name, this.#makings, signal);
    this.#bare.add(name);
    return network;
  }

  async #owned(): Promise<SessionNetwork[]> {
    const { engine, owner } = this.#options;
    return (await engine.listNetworks(ownedBy(owner.installationId))).map(sessionNetworkOf);
  }

  /** One that should have none: its rules stay while something is in it. */
  async #removeEmpty(network: SessionNetwork): Promise<void> {
    const found = await this.#options.engine.inspectNetwork(network.id);
    if (found && isInUse(found)) {
      throw new AppError('state-conflict', `Containers are in the network ${network.name}, which no kernel has.`);
    }
    await this.#remove(network);
  }

  /** Its rules first, as it has no containers any more: afterwards its addresses may be those of another one. */
  async #remove({ bridge, id, name }: SessionNetwork): Promise<void> {
    const { engine, firewall } = this.#options;
    await this.#rules.follow(async () => {
      this.#inForce.delete(name);
      this.#bare.delete(name);
      await firewall?.release(bridge);
    });
    await engine.removeNetwork(id);
  }
}

function guarded({ network, egress }: { readonly network: SessionNetwork; readonly egress: EgressPolicy }) {
  return network.subnets.map((subnet): GuardedNetwork => ({ subnet, bridge: network.bridge, egress }));
}

function isRouted({ subnets }: SessionNetwork): boolean {
  return subnets.some(hasRoute);
}

function hasRoute(subnet: Subnet): boolean {
  return readRoutes().some((route) => isDeepStrictEqual(route, subnet));
}
