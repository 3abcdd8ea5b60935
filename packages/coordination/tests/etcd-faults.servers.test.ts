import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { deferred, systemClock } from '@backend.ai/core';
import {
  type Database,
  type DatabaseHandle,
  fencedBy,
  installation,
  isCurrentEpoch,
  leaderLease,
  nextEpoch,
} from '@backend.ai/database';
import { silentLogger } from '@backend.ai/telemetry';
import { tempDirectory, testDatabase, waitFor } from '@backend.ai/testing';
import { and, eq } from 'drizzle-orm';
import { Etcd3 } from 'etcd3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type DevServer, startEtcd } from '../../../scripts/dev-servers/index.ts';
import {
  type Campaign,
  type ConfigChange,
  campaign,
  EtcdConfigStore,
  EtcdLeases,
  EtcdServer,
  type LeaseEpochs,
} from '../src/index.ts';

const logger = silentLogger;
const recovery = { timeoutMs: 30_000 };

describe('an etcd of its own', () => {
  let etcd: DevServer;
  let database: DatabaseHandle;
  let db: Database;
  let epochs: LeaseEpochs;
  let server: EtcdServer;
  beforeAll(async () => {
    database = await testDatabase();
    db = database.db;
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    etcd = await startEtcd({ directory: await tempDirectory() });
    server = await EtcdServer.open({ urls: etcd.url, namespace: 'test/' });
    epochs = {
      next: (name, holder) => nextEpoch(db, name, holder),
      isCurrent: (name, epoch) => isCurrentEpoch(db, name, epoch),
    };
  });
  afterEach(async () => {
    server.close();
    await etcd.kill();
  });

  const newLeases = (over: Partial<LeaseEpochs> = {}): EtcdLeases =>
    new EtcdLeases({ server, logger, epochs: { ...epochs, ...over } });

  describe('config store', () => {
    let store: EtcdConfigStore;
    let told: ConfigChange[];
    beforeEach(() => {
      store = new EtcdConfigStore({ server, logger });
      told = [];
    });
    afterEach(() => store.close());
    const values = (): Array<string | null> => told.map(({ value }) => value);
    const insist = (key: string, value: string) => waitFor(() => store.put(key, value), recovery);

    it('watches on after a restart, without loss or repetition', async () => {
      store.watch('a/', (change) => told.push(change));
      await store.put('a/key', '1');
      await waitFor(() => told.length === 1);
      await etcd.kill();
      await expect(store.put('a/key', 'x')).rejects.toMatchObject({ code: 'server-unreachable' });
      await etcd.start();
      await insist('a/key', '2');
      await store.delete('a/key');
      await waitFor(() => told.length >= 3, recovery);
      expect(values()).toEqual(['1', '2', null]);
    });

    it('watches on after a pause', async () => {
      store.watch('a/', (change) => told.push(change));
      await store.put('a/key', '1');
      await etcd.pause();
      await expect(store.get('a/key')).rejects.toMatchObject({ code: 'deadline-exceeded' });
      await etcd.resume();
      await insist('a/key', '2');
      await waitFor(() => told.length >= 2, recovery);
      expect(values()).toEqual(['1', '2']);
    });

    it('tells the last change of each key when what it missed was compacted', async () => {
      await store.put('a/gone', '0');
      await store.put('a/same', '0');
      store.watch('a/', (change) => told.push(change));
      await store.put('a/key', '1');
      await waitFor(() => told.length === 1);
      // Another client of the same server, while the connection of the watch is down.
      await etcd.kill();
      await etcd.start();
      const other = await EtcdServer.open({ urls: etcd.url, namespace: 'test/' });
      const writer = new EtcdConfigStore({ server: other, logger });
      await writer.put('a/key', '2');
      await writer.delete('a/gone');
      const { revision } = await writer.put('a/key', '3');
      await other.keys.kv.compact({ revision: String(revision), physical: true });
      other.close();
      await waitFor(() => told.some(({ key, value }) => key === 'a/gone' && value === null), recovery);
      await insist('a/key', '4');
      await waitFor(() => values().includes('4'), recovery);
      expect(told.filter(({ key }) => key === 'a/same')).toEqual([]);
      expect(told.filter(({ key }) => key === 'a/key').at(-2)!.value).toBe('3');
      expect(new Set(told.map(({ revision }) => revision)).size).toBe(told.length);
    });

    it('notices that etcd was replaced by an empty one', async () => {
      for (let index = 0; index < 5; index++) await store.put('a/key', String(index));
      store.watch('a/', (change) => told.push(change));
      await store.put('a/key', 'last');
      await waitFor(() => told.length === 1);
      await etcd.kill();
      await rm(join(etcd.directory, 'data'), { recursive: true });
      await etcd.start();
      await waitFor(() => told.at(-1)?.value === null, recovery);
      await insist('a/key', 'new');
      await waitFor(() => told.at(-1)?.value === 'new', recovery);
    });
  });

  describe('leases', () => {
    const write = async (epoch: number): Promise<boolean> => {
      const changed = await db
        .update(installation)
        .set({ value: String(epoch) })
        .where(and(eq(installation.key, 'fenced'), fencedBy(epoch)))
        .returning({ key: installation.key });
      return changed.length > 0;
    };
    const lead = (leases: EtcdLeases, holder: string): { campaign: Campaign; terms: number[]; ends: number[] } => {
      const [terms, ends]: [number[], number[]] = [[], []];
      const running = campaign({
        leases,
        name: leaderLease,
        holder,
        ttlMs: 3_000,
        logger,
        lead: async (lease, signal) => {
          terms.push(lease.epoch);
          await new Promise<void>((resolve) => {
            if (signal.aborted) resolve();
            signal.addEventListener('abort', () => resolve(), { once: true });
          });
          ends.push(lease.epoch);
        },
      });
      return { campaign: running, terms, ends };
    };

    it('lets a late holder write nothing, and has it find out at its next renewal', async () => {
      await db.insert(installation).values({ key: 'fenced', value: '' }).onConflictDoNothing();
      const late = await newLeases().acquire(leaderLease, 'late', 60_000);
      expect(await write(late!.epoch)).toBe(true);
      // As if its process was stopped for longer than its lease: etcd forgot it, and it does not know.
      await server.run((keys) => keys.delete().key(`leases/${leaderLease}`).exec());
      const next = await newLeases().acquire(leaderLease, 'next', 60_000);
      expect(await write(late!.epoch)).toBe(false);
      expect(await write(next!.epoch)).toBe(true);
      expect(await late!.renew()).toBe(false);
      expect(await late!.renew()).toBe(false);
      expect(await next!.renew()).toBe(true);
    });

    it("is nobody's when its epoch cannot be counted, and free at once", async () => {
      const failing = newLeases({
        next: async () => {
          throw new Error('no database');
        },
      });
      await expect(failing.acquire('role', 'a', 60_000)).rejects.toThrow('no database');
      expect(await newLeases().acquire('role', 'b', 60_000)).not.toBeNull();
    });

    it('is not held by whoever counted the epoch too late; who holds it then renews in vain and begins a later epoch', async () => {
      const [asked, counted] = [deferred(), deferred()];
      const slow = newLeases({
        next: async (name, holder) => {
          asked.resolve();
          await counted.promise;
          return epochs.next(name, holder);
        },
      });
      const acquiring = slow.acquire('role', 'slow', 2_000);
      await asked.promise;
      const quick = newLeases();
      const held = await waitFor(() => quick.acquire('role', 'quick', 60_000), recovery);
      counted.resolve();
      expect(await acquiring).toBeNull();
      expect(await held.renew()).toBe(false);
      await held.release();
      const again = await quick.acquire('role', 'quick', 60_000);
      expect(again!.epoch).toBeGreaterThan(held.epoch + 1);
      expect(await again!.renew()).toBe(true);
    });

    it('ends before etcd can give it away when etcd is silent, and is taken again when it is back', async () => {
      const one = lead(newLeases(), 'one');
      const two = lead(newLeases(), 'two');
      try {
        await waitFor(() => one.terms.length + two.terms.length === 1, recovery);
        await etcd.kill();
        await waitFor(() => one.ends.length + two.ends.length === 1, recovery);
        expect(one.campaign.current ?? two.campaign.current).toBeNull();
        await etcd.start();
        await waitFor(() => one.terms.length + two.terms.length === 2, recovery);
        const [first, second] = [...one.terms, ...two.terms].sort((left, right) => left - right);
        expect(second).toBeGreaterThan(first!);
      } finally {
        await Promise.all([one.campaign.stop(), two.campaign.stop()]);
      }
    });

    it('gives back, when etcd is back, what could not be given back before', async () => {
      const leases = newLeases();
      const lease = await leases.acquire('role', 'a', 60_000);
      await etcd.kill();
      await lease!.release();
      await etcd.start();
      const next = await waitFor(() => leases.acquire('role', 'a', 60_000), recovery);
      expect(next.epoch).toBeGreaterThan(lease!.epoch);
    });

    it('counts its time on the clock of the holder, from before it asked', async () => {
      let skewMs = 0;
      const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + skewMs };
      const leases = new EtcdLeases({ server, logger, epochs, clock });
      const lease = await leases.acquire('role', 'a', 60_000);
      expect(await lease!.renew()).toBe(true);
      skewMs = 60_001;
      expect(await lease!.renew()).toBe(false);
    });
  });

  it('tells an unreachable server and a wrong URL apart', async () => {
    const outcome = (urls: string) =>
      EtcdServer.open({ urls, namespace: 'test/', connectDeadlineMs: 2_000 }).catch((error) => error);
    expect(await outcome('127.0.0.1:2379')).toMatchObject({ code: 'config-invalid' });
    await etcd.kill();
    expect(await outcome(etcd.url)).toMatchObject({
      code: 'server-unreachable',
      message: expect.stringContaining(String(etcd.port)),
    });
  });

  it('tells a wrong password, without it, and takes the right one', async () => {
    const admin = new Etcd3({ hosts: etcd.url });
    const root = await admin.user('root').create('rightword');
    await admin.role('root').create();
    await root.addRole('root');
    await admin.auth.authEnable();
    admin.close();
    const outcome = (userinfo: string) =>
      EtcdServer.open({
        urls: etcd.url.replace('://', `://${userinfo}`),
        ...{ namespace: 'test/', showConfig: './backend.ai worker config show' },
      }).catch((error) => error);
    const right: EtcdServer = await outcome('root:rightword@');
    expect(await new EtcdConfigStore({ server: right, logger }).put('key', 'value')).toMatchObject({ value: 'value' });
    right.close();
    for (const refused of [await outcome('root:wrongword@'), await outcome('')]) {
      expect(refused).toMatchObject({
        code: 'config-invalid',
        hint: expect.stringMatching(/etcd\.password-file.*worker config show$/),
      });
      expect(JSON.stringify([refused, refused.message, refused.hint, refused.detail])).not.toMatch(
        /wrongword|rightword/,
      );
    }
  });
});
