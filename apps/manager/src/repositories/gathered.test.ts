import { AppError, deferred, Lane } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { Gathered } from './gathered.ts';

/** Doubles numbers; odd ones only by themselves. */
function doubling(most = 100, lane?: Lane) {
  const batches: number[][] = [];
  const gates = [deferred()];
  const gathered = new Gathered<number, number>({
    most,
    ...(lane ? { lane } : {}),
    work: async (items) => {
      batches.push([...items]);
      await gates[Math.min(batches.length, gates.length) - 1]!.promise;
      return items.map((item) => (item % 2 === 0 || items.length === 1 ? 2 * item : undefined));
    },
  });
  return { gathered, batches, open: () => gates[0]!.resolve() };
}

describe('calls that are gathered', () => {
  it('go together when they come while others are under way, and each gets its own outcome', async () => {
    const { gathered, batches, open } = doubling();
    const first = gathered.add(2);
    await Promise.resolve();
    const others = [4, 6, 8].map((item) => gathered.add(item));
    open();
    expect(await Promise.all([first, ...others])).toEqual([4, 8, 12, 16]);
    expect(batches).toEqual([[2], [4, 6, 8]]);
  });

  it('go by themselves when nothing came of them together', async () => {
    const { gathered, batches, open } = doubling();
    open();
    expect(await Promise.all([3, 4, 5].map((item) => gathered.add(item)))).toEqual([6, 8, 10]);
    expect(batches).toEqual([[3, 4, 5], [3], [5]]);
  });

  it('are no more than a statement may have', async () => {
    const { gathered, batches, open } = doubling(2);
    open();
    await Promise.all([2, 4, 6].map((item) => gathered.add(item)));
    expect(batches).toEqual([[2, 4], [6]]);
  });

  it('wait for others on the same lane', async () => {
    const lane = new Lane();
    const one = doubling(100, lane);
    const other = doubling(100, lane);
    const slow = one.gathered.add(2);
    const next = other.gathered.add(4);
    await new Promise(setImmediate);
    expect(other.batches).toEqual([]);
    one.open();
    other.open();
    expect(await Promise.all([slow, next])).toEqual([4, 8]);
  });

  it('fail alone, unless the database is away', async () => {
    const failing = (thrown: (item: number) => Error) => {
      const batches: number[][] = [];
      const gathered = new Gathered<number, number>({
        most: 100,
        work: async (items) => {
          batches.push([...items]);
          if (items.includes(13)) throw thrown(13);
          return items;
        },
      });
      return { gathered, batches };
    };
    const poison = failing(() => new Error('check violated'));
    const settled = await Promise.allSettled([1, 13, 2].map((item) => poison.gathered.add(item)));
    expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    const away = failing(() => new Error('Failed query', { cause: new AppError('server-unreachable', 'gone') }));
    const all = await Promise.allSettled([1, 13, 2].map((item) => away.gathered.add(item)));
    expect(all.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(away.batches).toHaveLength(1);
  });
});
