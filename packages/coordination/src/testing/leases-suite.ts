import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Lease, Leases } from '../index.ts';

/** Who keeps leases may take a while to see that one has ended. */
const acquired = (leases: Leases, name: string, holder: string, ttlMs: number): Promise<Lease> =>
  vi.waitUntil(() => leases.acquire(name, holder, ttlMs), { timeout: 20_000, interval: 50 });

export interface LeasesSetup {
  readonly leases: Leases;
  /** Lets time pass for the leases, real or not. */
  advance(ms: number): Promise<void>;
  dispose(): Promise<void>;
}

/** What every keeper of leases does. */
export function describeLeases(name: string, setUp: () => Promise<LeasesSetup>): void {
  describe(`leases: ${name}`, () => {
    let setup: LeasesSetup;
    let leases: Leases;
    beforeEach(async () => {
      setup = await setUp();
      leases = setup.leases;
    });
    afterEach(() => setup.dispose());

    it('gives a role to one of several', async () => {
      const got = await Promise.all(['a', 'b', 'c'].map((holder) => leases.acquire('role', holder, 10_000)));
      expect(got.filter((lease) => lease !== null)).toHaveLength(1);
      expect(await leases.acquire('another role', 'b', 10_000)).not.toBeNull();
    });

    it('raises the epoch with every new holder', async () => {
      const first = await leases.acquire('role', 'a', 10_000);
      await first!.release();
      const second = await leases.acquire('role', 'b', 10_000);
      await second!.release();
      const third = await leases.acquire('role', 'a', 10_000);
      expect(second!.epoch).toBeGreaterThan(first!.epoch);
      expect(third!.epoch).toBeGreaterThan(second!.epoch);
    });

    it('holds as long as it is renewed', async () => {
      const lease = await leases.acquire('role', 'a', 5_000);
      await setup.advance(3_000);
      expect(await lease!.renew()).toBe(true);
      await setup.advance(3_000);
      expect(await leases.acquire('role', 'b', 5_000)).toBeNull();
    });

    it('passes to another when it is not renewed, and does not come back', async () => {
      const late = await leases.acquire('role', 'a', 3_000);
      await setup.advance(4_000);
      expect(await late!.renew()).toBe(false);
      const next = await acquired(leases, 'role', 'b', 3_000);
      expect(next.epoch).toBeGreaterThan(late!.epoch);
      expect(await late!.renew()).toBe(false);
      await late!.release();
      expect(await next.renew()).toBe(true);
      expect(await leases.acquire('role', 'a', 3_000)).toBeNull();
    });

    it('is over for good for a holder who came too late, also when nobody else wanted it', async () => {
      const late = await leases.acquire('role', 'a', 3_000);
      await setup.advance(4_000);
      expect(await late!.renew()).toBe(false);
      expect(await late!.renew()).toBe(false);
      const again = await acquired(leases, 'role', 'a', 3_000);
      expect(again.epoch).toBeGreaterThan(late!.epoch);
      expect(await late!.renew()).toBe(false);
    });

    it('does not give the same holder a second lease', async () => {
      const lease = await leases.acquire('role', 'a', 10_000);
      expect(await leases.acquire('role', 'a', 10_000)).toBeNull();
      expect(await lease!.renew()).toBe(true);
    });

    it('is free at once when released, which may be said twice', async () => {
      const lease = await leases.acquire('role', 'a', 10_000);
      await lease!.release();
      await lease!.release();
      expect(await lease!.renew()).toBe(false);
      const next = await leases.acquire('role', 'b', 10_000);
      await lease!.release();
      expect(await next!.renew()).toBe(true);
    });

    it('raises epochs without exception while many want it', async () => {
      const epochs: number[] = [];
      const candidate = async (holder: string): Promise<void> => {
        for (let turn = 0; turn < 5; turn++) {
          const lease = await acquired(leases, 'wanted', holder, 10_000);
          epochs.push(lease.epoch);
          await lease.release();
        }
      };
      await Promise.all(['a', 'b', 'c'].map(candidate));
      expect(epochs).toEqual([...new Set(epochs)].sort((left, right) => left - right));
      expect(epochs).toHaveLength(15);
    });
  });
}
