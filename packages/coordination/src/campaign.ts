import { type Clock, delay, systemClock } from '@backend.ai/core';
import { BackgroundTasks, type Logger } from '@backend.ai/telemetry';
import type { Lease, Leases } from './leases.ts';

export interface CampaignOptions {
  readonly leases: Leases;
  readonly name: string;
  /** Unique to this process. */
  readonly holder: string;
  /** How long a silent holder keeps the lease, in milliseconds; it is renewed three times as often. */
  readonly ttlMs: number;
  readonly logger: Logger;
  readonly clock?: Clock;
  /**
   * Does the work of the role until `signal` aborts, which is when the lease was lost or may have been. Returning early
   * gives the role up for now.
   */
  readonly lead: (lease: Lease, signal: AbortSignal) => Promise<void>;
}

export interface Campaign {
  /** The lease while this process holds it. */
  readonly current: Lease | null;
  /** Ends the work, releases the lease, and stops trying. */
  stop(): Promise<void>;
}

/** Tries to hold a lease for as long as the process lives, and does the work of the holder while it does. */
export function campaign(options: CampaignOptions): Campaign {
  const { leases, name, holder, ttlMs, logger, lead } = options;
  const clock = options.clock ?? systemClock;
  const stopping = new AbortController();
  const tasks = new BackgroundTasks(logger);
  let current: Lease | null = null;

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const askedAt = clock.monotonic();
      const lease = await leases.acquire(name, holder, ttlMs).catch((error: unknown) => {
        logger.warn('lease could not be asked for', { lease: name, error });
        return null;
      });
      if (lease) await hold(lease, askedAt);
      await delay(clock, ttlMs / 3, stopping.signal);
    }
  }

  async function hold(lease: Lease, acquiredAt: number): Promise<void> {
    const ended = new AbortController();
    const end = (): void => ended.abort();
    stopping.signal.addEventListener('abort', end, { once: true });
    if (stopping.signal.aborted) end();
    current = lease;
    logger.info('lease acquired', { lease: name, holder, epoch: lease.epoch });
    const working = lead(lease, ended.signal)
      .catch((error: unknown) => logger.error('work under a lease failed', { lease: name, epoch: lease.epoch, error }))
      .finally(end);
    await keep(lease, acquiredAt, ended);
    current = null;
    stopping.signal.removeEventListener('abort', end);
    await working;
    await lease.release().catch((error: unknown) => logger.warn('lease could not be released', { lease: name, error }));
    logger.info('lease ended', { lease: name, holder, epoch: lease.epoch });
  }

  /** Renews until the work ends or the lease does. Time counts from before each request: its answer may be slow. */
  async function keep(lease: Lease, acquiredAt: number, ended: AbortController): Promise<void> {
    let expiry = clock.setTimer(acquiredAt + ttlMs - clock.monotonic(), () => ended.abort());
    while (!ended.signal.aborted) {
      await delay(clock, ttlMs / 3, ended.signal);
      if (ended.signal.aborted) break;
      const askedAt = clock.monotonic();
      const renewed = await lease.renew().catch((error: unknown) => {
        logger.warn('lease could not be renewed', { lease: name, epoch: lease.epoch, error });
        return 'unknown' as const;
      });
      if (renewed === false) ended.abort();
      if (renewed === true) {
        expiry();
        expiry = clock.setTimer(askedAt + ttlMs - clock.monotonic(), () => ended.abort());
      }
    }
    expiry();
  }

  tasks.start(`campaign for ${name}`, run);
  return {
    get current() {
      return current;
    },
    stop: async () => {
      stopping.abort();
      await tasks.drain();
    },
  };
}
