import { silentLogger } from '@backend.ai/telemetry';
import { FakeClock } from '@backend.ai/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Campaign, campaign, type Lease, type Leases } from '../src/index.ts';

/** Leases in memory that can be cut off, as a network would. */
class FakeLeases implements Leases {
  readonly clock: FakeClock;
  reachable = true;
  #epoch = 0;
  #expiresAt = 0;

  constructor(clock: FakeClock) {
    this.clock = clock;
  }

  async acquire(name: string, holder: string, ttlMs: number): Promise<Lease | null> {
    this.#check();
    if (this.#expiresAt > this.clock.monotonic()) return null;
    this.#expiresAt = this.clock.monotonic() + ttlMs;
    this.#epoch += 1;
    const epoch = this.#epoch;
    return {
      name,
      holder,
      epoch,
      renew: async () => {
        this.#check();
        if (this.#epoch !== epoch || this.#expiresAt <= this.clock.monotonic()) return false;
        this.#expiresAt = this.clock.monotonic() + ttlMs;
        return true;
      },
      release: async () => {
        this.#check();
        if (this.#epoch === epoch) this.#expiresAt = 0;
      },
    };
  }

  #check(): void {
    if (!this.reachable) throw new Error('unreachable');
  }
}

describe('a campaign', () => {
  let clock: FakeClock;
  let leases: FakeLeases;
  beforeEach(() => {
    clock = new FakeClock();
    leases = new FakeLeases(clock);
  });

  const untilAborted = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

  const run = (holder: string, log: string[]): Campaign =>
    campaign({
      leases,
      name: 'role',
      holder,
      ttlMs: 3_000,
      logger: silentLogger,
      clock,
      lead: async (lease, signal) => {
        log.push(`${holder} leads ${lease.epoch}`);
        await untilAborted(signal);
        log.push(`${holder} ends ${lease.epoch} at ${clock.monotonic()}`);
      },
    });

  it('leads as long as it can renew, and hands over when stopped', async () => {
    const log: string[] = [];
    const one = run('one', log);
    await clock.advance(10);
    const two = run('two', log);
    await clock.advance(30_000);
    expect(log).toEqual(['one leads 1']);
    expect(one.current?.epoch).toBe(1);
    await one.stop();
    expect(one.current).toBeNull();
    await clock.advance(1_000);
    expect(log.at(-1)).toBe('two leads 2');
    await two.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  it('asks again for a lease that it could not ask for, or that another one has, until it has it', async () => {
    const log: string[] = [];
    leases.reachable = false;
    const one = run('one', log);
    await clock.advance(10_000);
    expect(log).toEqual([]);
    leases.reachable = true;
    const lease = await leases.acquire('role', 'somebody', 20_000);
    await clock.advance(19_000);
    expect([lease?.epoch, log]).toEqual([1, []]);
    await clock.advance(2_000);
    expect(log).toEqual(['one leads 2']);
    await one.stop();
  });

  it('ends its work before its lease does when it cannot renew', async () => {
    const log: string[] = [];
    const one = run('one', log);
    await clock.advance(500);
    leases.reachable = false;
    await clock.advance(2_499);
    expect(log).toEqual(['one leads 1']);
    await clock.advance(1);
    expect(log).toEqual(['one leads 1', 'one ends 1 at 3000']);
    leases.reachable = true;
    await clock.advance(1_000);
    expect(log.at(-1)).toBe('one leads 2');
    await one.stop();
  });
});
