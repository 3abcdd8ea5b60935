import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Deferred, deferred } from './deferred.ts';
import { Lane, Lanes } from './lane.ts';

describe('a lane', () => {
  it('begins each piece of work when the one before has ended, and answers each caller', async () => {
    const lane = new Lane();
    const [first, second] = [deferred<string>(), deferred<string>()];
    const begun: number[] = [];
    const one = lane.follow(() => {
      begun.push(1);
      return first.promise;
    });
    const two = lane.follow(() => {
      begun.push(2);
      return second.promise;
    });
    expect(begun).toEqual([]);
    second.resolve('b');
    await new Promise(setImmediate);
    expect(begun).toEqual([1]);
    first.resolve('a');
    expect(await Promise.all([one, two])).toEqual(['a', 'b']);
  });

  it('goes on after a failure, of which its own caller alone hears', async () => {
    const lane = new Lane();
    const failed = lane.follow(() => Promise.reject(new Error('no')));
    const next = lane.follow(async () => 'yes');
    await expect(failed).rejects.toThrow('no');
    expect(await next).toBe('yes');
  });
});

describe('lanes', () => {
  it('keep the order of each key, let others pass, and forget keys without work', async () => {
    const piece = fc.record({ key: fc.constantFrom('a', 'b', 'c'), fails: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), fc.infiniteStream(fc.nat()), async (pieces, picks) => {
        const lanes = new Lanes<string>();
        const running = new Map<string, { nth: number; gate: Deferred<void> }>();
        const begun: Array<{ key: string; nth: number }> = [];
        const asked = pieces.map(({ key, fails }, nth) =>
          lanes
            .follow(key, async () => {
              expect(running.has(key)).toBe(false);
              const gate = deferred();
              running.set(key, { nth, gate });
              begun.push({ key, nth });
              await gate.promise;
              running.delete(key);
              if (fails) throw new Error(String(nth));
              return nth;
            })
            .catch(({ message }: Error) => message),
        );
        await new Promise(setImmediate);
        // All keys have their first piece under way: none waits for another key.
        expect(running.size).toBe(new Set(pieces.map(({ key }) => key)).size);
        while (running.size > 0) {
          const open = [...running.values()];
          open[(picks.next().value as number) % open.length]?.gate.resolve();
          await new Promise(setImmediate);
        }
        expect(await Promise.all(asked)).toEqual(pieces.map(({ fails }, nth) => (fails ? String(nth) : nth)));
        for (const key of ['a', 'b', 'c']) {
          const order = begun.flatMap((each) => (each.key === key ? [each.nth] : []));
          expect(order).toEqual(pieces.flatMap((each, nth) => (each.key === key ? [nth] : [])));
        }
        expect(lanes.size).toBe(0);
      }),
    );
  });
});
