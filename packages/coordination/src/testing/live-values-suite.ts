import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LiveValues } from '../index.ts';

export interface LiveValuesSetup {
  readonly values: LiveValues;
  /** Lets time pass for the store, real or not. On a busy machine real time goes on between two calls, too. */
  advance(ms: number): Promise<void>;
  dispose(): Promise<void>;
}

/** What every store of live values does. */
export function describeLiveValues(name: string, setUp: () => Promise<LiveValuesSetup>): void {
  describe(`live values: ${name}`, () => {
    let setup: LiveValuesSetup;
    let values: LiveValues;
    beforeEach(async () => {
      setup = await setUp();
      values = setup.values;
    });
    afterEach(() => setup.dispose());

    it('forgets a value when its time is over, and others not', async () => {
      await values.set('short', 'a', 1_000);
      await values.set('long', 'b');
      expect(await values.get('short')).toBe('a');
      await setup.advance(1_250);
      expect(await values.get('short')).toBeNull();
      expect(await values.get('long')).toBe('b');
      expect(await values.get('never')).toBeNull();
    });

    it('prolongs a value that is there', async () => {
      await values.set('key', 'a', 1_000);
      expect(await values.expire('key', 5_000)).toBe(true);
      await setup.advance(1_250);
      expect(await values.get('key')).toBe('a');
      expect(await values.expire('absent', 5_000)).toBe(false);
    });

    it('lets one of several set what was absent', async () => {
      const won = await Promise.all(['a', 'b', 'c'].map((value) => values.setIfAbsent('once', value, 1_000)));
      expect(won.filter(Boolean)).toHaveLength(1);
      await setup.advance(1_250);
      expect(await values.setIfAbsent('once', 'd', 1_000)).toBe(true);
    });

    it('deletes', async () => {
      await values.set('key', 'a');
      expect(await values.delete('key')).toBe(true);
      expect(await values.delete('key')).toBe(false);
      expect(await values.get('key')).toBeNull();
    });

    it('counts within a window that does not slide', async () => {
      expect((await values.increment('hits', 1_500)).count).toBe(1);
      await setup.advance(1_000);
      const second = await values.increment('hits', 1_500);
      expect(second.count).toBe(2);
      expect(second.resetInMs).toBeLessThanOrEqual(500);
      await setup.advance(750);
      expect((await values.increment('hits', 1_500)).count).toBe(1);
    });

    it('counts several at once', async () => {
      expect((await values.increment('hits', 10_000, 3)).count).toBe(3);
      expect((await values.increment('hits', 10_000)).count).toBe(4);
      expect((await values.increment('hits', 10_000, 2)).count).toBe(6);
    });

    it('counts every one of many at the same time', async () => {
      const counts = await Promise.all(Array.from({ length: 50 }, () => values.increment('hits', 10_000)));
      expect(counts.map(({ count }) => count).sort((left, right) => left - right)).toEqual(
        Array.from({ length: 50 }, (_, index) => index + 1),
      );
    });

    it('replaces a value and its time', async () => {
      await values.set('key', 'a', 1_000);
      await values.set('key', '');
      await setup.advance(1_250);
      expect(await values.get('key')).toBe('');
    });

    it('keeps values, counters and sets of one name apart', async () => {
      await values.set('name', 'text');
      await values.increment('name', 10_000);
      await values.markPresent('name', 'member', 10_000);
      expect(await values.get('name')).toBe('text');
      expect((await values.increment('name', 10_000)).count).toBe(2);
      expect(await values.present('name')).toEqual(['member']);
      expect(await values.delete('name')).toBe(true);
      expect(await values.present('name')).toEqual(['member']);
    });

    it('keeps a member present that says so again', async () => {
      await values.markPresent('agents', 'a', 2_000);
      await setup.advance(1_500);
      await values.markPresent('agents', 'a', 2_000);
      await setup.advance(1_500);
      expect(await values.present('agents')).toEqual(['a']);
    });

    it('tells who is present', async () => {
      await values.markPresent('agents', 'b', 5_000);
      await values.markPresent('agents', 'a', 1_000);
      await values.markPresent('agents', 'c', 5_000);
      await values.markAbsent('agents', 'c');
      expect(await values.present('agents')).toEqual(['a', 'b']);
      await setup.advance(1_250);
      expect(await values.present('agents')).toEqual(['b']);
      expect(await values.present('nobody')).toEqual([]);
    });
  });
}
