import { type Clock, delay, hasCode, type Subnet, within } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { Engine } from './engine.ts';
import { isInUse, type SessionNetwork } from './session-network.ts';

export interface SpareNetworksOptions {
  readonly engine: Pick<Engine, 'inspectNetwork'>;
  readonly pool: Subnet;
  readonly prefix: number;
  /** How many are wanted. */
  readonly spares: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Makes one, and adds it. @throws AppError `insufficient-capacity` when no address range is left */
  readonly make: () => Promise<void>;
  /** Nothing happens when it is gone already. */
  readonly remove: (network: SessionNetwork) => Promise<void>;
}

/** Ranges of the pool for each of them: the pool is for sessions that there are, and other agents may share it. */
const pooledPerSpare = 16;
/** What is missing is made when no session has come for so long: starts have the machine to themselves. */
const quietMs = 1_000;
const tickMs = 30_000;
/** An engine that hangs does not hold up the end of the agent. */
export const closeMs = 5_000;

/** Networks without containers, with their rules in place, for sessions to come: an engine takes 100 ms to make one. */
export class SpareNetworks {
  readonly #options: SpareNetworksOptions;
  readonly #wanted: number;
  /** By name. The one that was used longest ago is taken first. */
  readonly #networks = new Map<string, SessionNetwork>();
  /** Names of those that are looked at before they are taken. */
  readonly #looked = new Set<string>();
  readonly #loop: ReconcileLoop;
  #takenAt = Number.NEGATIVE_INFINITY;
  /** One is being made, which counts as there for those that are kept meanwhile. */
  #isMaking = false;
  #isClosed = false;

  constructor(options: SpareNetworksOptions) {
    this.#options = options;
    const { spares, pool, prefix, clock, logger } = options;
    this.#wanted = mostSpares(spares, pool, prefix);
    this.#loop = new ReconcileLoop({
      ...{ name: 'have networks ready', tickMs, clock, logger },
      run: (signal) => this.#fill(signal),
    });
  }

  /** Makes what is missing from now on. */
  start(): void {
    if (this.#wanted > 0) this.#loop.start();
  }

  /** Removes them, as nobody would if the folder of the agent went. What the engine does not remove now is adopted later. */
  async close(): Promise<void> {
    const { clock, logger, remove } = this.#options;
    this.#isClosed = true;
    const removeAll = async (): Promise<void> => {
      await this.#loop.stop();
      const outcomes = await Promise.allSettled(this.all().map((network) => remove(network)));
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed) logger.warn('networks that were kept ready stay', { error: failed.reason });
    };
    await within(clock, closeMs, removeAll());
  }

  all(): SessionNetwork[] {
    return [...this.#networks.values()];
  }

  has(name: string): boolean {
    return this.#networks.has(name) || this.#looked.has(name);
  }

  add(network: SessionNetwork): void {
    this.#networks.set(network.name, network);
  }

  /** Whether it is wanted; then it is one of them. Nothing is in it any more. */
  keep(network: SessionNetwork): boolean {
    const isWanted = !this.#isClosed && this.#networks.size + Number(this.#isMaking) < this.#wanted;
    if (isWanted) this.add(network);
    return isWanted;
  }

  /** Keeps what nobody has any more, if it is wanted and nothing is in it. */
  async adopt(network: SessionNetwork): Promise<void> {
    if ((await this.#look(network)) === 'free') this.keep(network);
  }

  /** Null: none is left. */
  async take(): Promise<SessionNetwork | null> {
    const { clock, remove } = this.#options;
    this.#takenAt = clock.monotonic();
    for (const network of this.all()) {
      // Another session may have taken it meanwhile.
      if (!this.#networks.delete(network.name)) continue;
      this.#loop.hint();
      this.#looked.add(network.name);
      try {
        const state = await this.#look(network);
        if (state === 'free') return network;
        if (state === 'gone') await remove(network);
      } catch (error) {
        this.add(network);
        throw error;
      } finally {
        this.#looked.delete(network.name);
      }
    }
    return null;
  }

  /** Somebody may have removed it, or put a container of theirs into it. */
  async #look({ id }: SessionNetwork): Promise<'free' | 'in use' | 'gone'> {
    const found = await this.#options.engine.inspectNetwork(id);
    if (!found) return 'gone';
    return isInUse(found) ? 'in use' : 'free';
  }

  async #fill(signal: AbortSignal): Promise<void> {
    const { clock, make } = this.#options;
    while (!signal.aborted && this.#networks.size < this.#wanted) {
      const restMs = this.#takenAt + quietMs - clock.monotonic();
      if (restMs > 0) {
        await delay(clock, restMs, signal);
        continue;
      }
      this.#isMaking = true;
      try {
        await make();
      } catch (error) {
        // Ranges that are left are for sessions.
        if (hasCode(error, 'insufficient-capacity')) return;
        throw error;
      } finally {
        this.#isMaking = false;
      }
    }
  }
}

/** How many of the networks that are wanted ahead a range of addresses allows. */
export function mostSpares(wanted: number, pool: Subnet, prefix: number): number {
  return Math.min(wanted, Math.floor(2 ** (prefix - pool.prefix) / pooledPerSpare));
}
