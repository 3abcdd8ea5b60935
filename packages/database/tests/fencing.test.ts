import { testDatabase } from '@backend.ai/testing';
import { and, eq } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DatabaseHandle, domains, fencedBy, leaderLease, leases, requireEpoch } from '../src/index.ts';

describe('fencing', () => {
  let handle: DatabaseHandle;
  beforeAll(async () => {
    handle = await testDatabase();
    await handle.db.insert(leases).values({ name: leaderLease, holder: 'b', epoch: 7, expiresAt: new Date() });
    await handle.db.insert(domains).values({ name: 'default' });
  });
  afterAll(() => handle.close());

  const rename = (epoch: number) =>
    handle.db
      .update(domains)
      .set({ isActive: false })
      .where(and(eq(domains.name, 'default'), fencedBy(epoch)))
      .returning();

  it('lets the present leader write', async () => {
    expect(await rename(7)).toHaveLength(1);
    await handle.db.transaction((tx) => requireEpoch(tx, 7));
  });

  it('makes the writes of a former leader change nothing', async () => {
    expect(await rename(6)).toHaveLength(0);
    await expect(handle.db.transaction((tx) => requireEpoch(tx, 6))).rejects.toMatchObject({ code: 'stale-epoch' });
  });
});
