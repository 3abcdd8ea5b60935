import { type Campaign, campaign, type Leases } from '@backend.ai/coordination';
import { type Clock, deferred, type RequestId } from '@backend.ai/core';
import { leaderLease } from '@backend.ai/database';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { BusinessLog } from '../events.ts';

/** One thing that only the leader does. */
export interface Duty {
  readonly name: string;
  /** One pass under this epoch: no input, and twice does no harm. */
  run(epoch: number, signal: AbortSignal): Promise<void>;
  stop?(): void;
}

export interface LeaderOptions<Name extends string> {
  readonly leases: Leases;
  /** Unique to this process. */
  readonly holder: string;
  readonly ttlMs: number;
  readonly tickMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A duty came to its end without an error. */
  readonly onEnd?: (name: string) => void;
  /**
   * Made anew for each term: nothing is remembered across them. `again` makes a duty run once more, under a request id of
   * its own: a loop that comes back to its work does not do so for the request that it happened to serve before.
   */
  readonly duties: (again: (name: Name) => void) => Record<Name, Duty>;
}

/**
 * Campaigns for leadership and does the leader's duties while it holds. No lock is trusted: each write under a term
 * checks its epoch in the database, so that a leader who was paused can do nothing.
 */
export class Leader<Name extends string> {
  readonly #options: LeaderOptions<Name>;
  readonly #log: BusinessLog;
  #campaign: Campaign | undefined;
  #epoch: number | undefined;
  #loops = new Map<Name, ReconcileLoop>();
  #elected = deferred<void>();

  constructor(options: LeaderOptions<Name>) {
    this.#options = options;
    this.#log = new BusinessLog(options.logger);
  }

  /** Undefined while another one leads. */
  get epoch(): number | undefined {
    return this.#epoch;
  }

  start(): void {
    const { leases, holder, ttlMs, clock, logger } = this.#options;
    this.#campaign ??= campaign({
      leases,
      name: leaderLease,
      holder,
      ttlMs,
      clock,
      logger,
      lead: (lease, signal) => this.#lead(lease.epoch, signal),
    });
  }

  async stop(): Promise<void> {
    await this.#campaign?.stop();
    this.#campaign = undefined;
  }

  /** Makes a duty run at once, under the id of its cause. Does nothing at a manager that does not lead. */
  hint(name: Name, cause: RequestId | undefined): void {
    this.#loops.get(name)?.hint(cause);
  }

  /** Resolves when this manager leads. */
  async elected(): Promise<void> {
    await this.#elected.promise;
  }

  /** Runs every duty to its end once more. For orderly shutdown and tests. */
  async settle(): Promise<void> {
    for (const loop of this.#loops.values()) await loop.settle();
  }

  async #lead(epoch: number, signal: AbortSignal): Promise<void> {
    const { duties, tickMs, clock, logger, onEnd } = this.#options;
    this.#epoch = epoch;
    this.#log.leading(epoch);
    const made = Object.entries<Duty>(duties((name) => this.hint(name, undefined))) as Array<[Name, Duty]>;
    const loops = made.map(
      ([name, duty]) =>
        [
          name,
          new ReconcileLoop({
            name: duty.name,
            tickMs,
            clock,
            logger,
            run: async (stop) => {
              await duty.run(epoch, stop);
              onEnd?.(duty.name);
            },
          }),
        ] as const,
    );
    this.#loops = new Map(loops);
    for (const [, loop] of loops) loop.start();
    this.#elected.resolve();
    const aborted = deferred();
    signal.addEventListener('abort', () => aborted.resolve(), { once: true });
    if (signal.aborted) aborted.resolve();
    await aborted.promise;
    this.#epoch = undefined;
    this.#elected = deferred();
    this.#loops = new Map();
    for (const [, duty] of made) duty.stop?.();
    await Promise.all(loops.map(([, loop]) => loop.stop()));
  }
}
