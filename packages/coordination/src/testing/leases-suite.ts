import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Leases } from '../index.ts';

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
      const lease = await leases.acquire('role', 'a', 3_000);
      await setup.advance(2_000);
      expect(await lease!.renew()).toBe(true);
      await setup.advance(2_000);
      expect(await leases.acquire('role', 'b', 3_000)).toBeNull();
    });

    it('passes to another when it is not renewed, and does not come back', async () => {
      const late = await leases.acquire('role', 'a', 3_000);
      await setup.advance(4_000);
      expect(await late!.renew()).toBe(false);
      const next = await leases.acquire('role', 'b', 3_000);
      expect(next!.epoch).toBeGreaterThan(late!.epoch);
      expect(await late!.renew()).toBe(false);
      await late!.release();
      expect(await next!.renew()).toBe(true);
    });
  });
}
