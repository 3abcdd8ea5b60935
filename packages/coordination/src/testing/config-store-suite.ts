import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ConfigChange, ConfigStore } from '../index.ts';

const waitFor = <T>(condition: () => T | Promise<T>): Promise<T> =>
  vi.waitUntil(condition, { timeout: 20_000, interval: 5 }) as Promise<T>;

export interface ConfigStoreSetup {
  /** Empty. */
  readonly store: ConfigStore;
  dispose(): Promise<void>;
}

/** What every config store does. */
export function describeConfigStore(name: string, setUp: () => Promise<ConfigStoreSetup>): void {
  describe(`config store: ${name}`, () => {
    let setup: ConfigStoreSetup;
    let store: ConfigStore;
    beforeEach(async () => {
      setup = await setUp();
      store = setup.store;
    });
    afterEach(() => setup.dispose());

    it('gives back what was put, with a growing revision', async () => {
      const first = await store.put('a/one', '1');
      const second = await store.put('a/one', '2');
      expect(second.revision).toBeGreaterThan(first.revision);
      expect(await store.get('a/one')).toEqual({ key: 'a/one', value: '2', revision: second.revision });
      expect(await store.get('absent')).toBeNull();
    });

    it('lists by prefix in order of keys, taking wildcards literally', async () => {
      for (const key of ['b/two', 'a/one', 'b/one', 'b%']) await store.put(key, key);
      expect((await store.list('b/')).map((entry) => entry.key)).toEqual(['b/one', 'b/two']);
      expect((await store.list('b%')).map((entry) => entry.key)).toEqual(['b%']);
    });

    it('deletes once', async () => {
      await store.put('a', '1');
      expect(await store.delete('a')).toBe(true);
      expect(await store.delete('a')).toBe(false);
      expect(await store.get('a')).toBeNull();
    });

    it('lets one of several writers win', async () => {
      const created = await Promise.all(['x', 'y', 'z'].map((value) => store.compareAndSet('key', null, value)));
      const winner = created.find((entry) => entry !== null);
      expect(created.filter((entry) => entry !== null)).toHaveLength(1);
      const changed = await Promise.all(['p', 'q'].map((value) => store.compareAndSet('key', winner!.revision, value)));
      expect(changed.filter((entry) => entry !== null)).toHaveLength(1);
      expect(await store.compareAndSet('absent', 1, 'v')).toBeNull();
      expect(await store.compareAndSet('absent', 0, 'v')).toBeNull();
      expect(await store.get('absent')).toBeNull();
    });

    it('counts up without loss when all writers compare', async () => {
      await store.put('counter', '0');
      const add = async (): Promise<void> => {
        for (let done = false; !done; ) {
          const seen = await store.get('counter');
          done = (await store.compareAndSet('counter', seen!.revision, String(Number(seen!.value) + 1))) !== null;
        }
      };
      await Promise.all(Array.from({ length: 8 }, add));
      expect((await store.get('counter'))?.value).toBe('8');
    });

    it('takes what was deleted for absent, and what came after it for something else', async () => {
      const first = await store.put('key', 'same');
      await store.delete('key');
      expect(await store.compareAndSet('key', first.revision, 'x')).toBeNull();
      const second = await store.compareAndSet('key', null, 'same');
      expect(second!.revision).toBeGreaterThan(first.revision);
      expect(await store.compareAndSet('key', first.revision, 'x')).toBeNull();
    });

    it('keeps any text', async () => {
      for (const value of ['', ' ', '\u{1f600} ä\n"', '{"a":1}']) {
        await store.put('text', value);
        expect((await store.get('text'))?.value).toBe(value);
      }
      await store.put('ключ/ä', 'v');
      expect((await store.list('ключ/')).map(({ key }) => key)).toEqual(['ключ/ä']);
    });

    it('loses nothing to those who watch first and list then', async () => {
      const told: ConfigChange[] = [];
      const writing = (async () => {
        for (let index = 0; index < 20; index++) await store.put(`w/${index}`, String(index));
      })();
      const stop = store.watch('w/', (change) => told.push(change));
      const listed = await store.list('w/');
      await writing;
      const known = (): Set<string> => new Set([...listed, ...told].map(({ key }) => key));
      await waitFor(() => known().size === 20);
      const keys = told.map(({ key }) => key);
      expect(new Set(keys).size).toBe(keys.length);
      stop();
    });

    it('tells all watchers, also when one of them fails', async () => {
      const told: string[] = [];
      store.watch('a/', () => {
        throw new Error('fails');
      });
      store.watch('a/', ({ key }) => void told.push(key));
      store.watch('', ({ key }) => void told.push(key));
      await store.put('a/key', '1');
      await waitFor(() => told.length === 2);
    });

    it('tells watchers of a prefix every change in order', async () => {
      const changes: ConfigChange[] = [];
      const stop = store.watch('a/', (change) => changes.push(change));
      await store.put('b/other', '0');
      const one = await store.put('a/key', '1');
      await store.compareAndSet('a/key', one.revision, '2');
      await store.compareAndSet('a/key', one.revision, 'too late');
      await store.delete('a/key');
      await waitFor(() => changes.length >= 3);
      expect(changes.map(({ key, value }) => [key, value])).toEqual([
        ['a/key', '1'],
        ['a/key', '2'],
        ['a/key', null],
      ]);
      const revisions = changes.map((change) => change.revision);
      expect(revisions).toEqual([...revisions].sort((left, right) => left - right));
      expect(new Set(revisions).size).toBe(3);
      stop();
      await store.put('a/key', '3');
      expect(changes).toHaveLength(3);
    });
  });
}
