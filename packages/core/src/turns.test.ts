import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Turns } from './turns.ts';

const never = new AbortController().signal;

describe('turns', () => {
  it('are had by so many at a time, in the order in which they came', async () => {
    const turns = new Turns(2);
    const ends: Array<() => void> = [];
    const had: string[] = [];
    const take = (name: string): void => {
      void turns.take(never).then((end) => {
        had.push(name);
        ends.push(end);
      });
    };
    for (const name of ['a', 'b', 'c', 'd']) take(name);
    await new Promise(setImmediate);
    expect(had).toEqual(['a', 'b']);
    expect(turns.isFree).toBe(false);
    ends[1]?.();
    ends[1]?.();
    await new Promise(setImmediate);
    expect(had).toEqual(['a', 'b', 'c']);
    for (const end of ends) end();
    await new Promise(setImmediate);
    expect(had).toEqual(['a', 'b', 'c', 'd']);
    expect(turns.isFree).toBe(true);
  });

  it('come to what may wait only when nothing else does', async () => {
    const turns = new Turns(1);
    const end = await turns.take(never);
    const had: string[] = [];
    const all = (['later', 'next', 'next'] as const).map(async (rank, nth) => {
      const mine = await turns.take(never, rank);
      had.push(`${rank} ${nth}`);
      mine();
    });
    end();
    await Promise.all(all);
    expect(had).toEqual(['next 1', 'next 2', 'later 0']);
  });

  it('are lost by none, whoever gives up waiting', async () => {
    const act = fc.record({ kind: fc.constantFrom('take', 'end', 'cancel'), pick: fc.nat(), later: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 3 }), fc.array(act, { maxLength: 30 }), async (atOnce, acts) => {
        const turns = new Turns(atOnce);
        const ends: Array<() => void> = [];
        const waiting = new Set<AbortController>();
        for (const { kind, pick, later } of acts) {
          if (kind === 'take') {
            const abort = new AbortController();
            waiting.add(abort);
            void turns.take(abort.signal, later ? 'later' : 'next').then(
              (end) => {
                waiting.delete(abort);
                ends.push(end);
              },
              ({ code }) => {
                expect(code).toBe('cancelled');
                waiting.delete(abort);
              },
            );
          } else if (kind === 'end') ends.splice(pick % Math.max(1, ends.length), 1)[0]?.();
          else [...waiting][pick % Math.max(1, waiting.size)]?.abort();
          await new Promise(setImmediate);
          expect(ends.length).toBeLessThanOrEqual(atOnce);
          // Nobody waits while a turn is free.
          expect(waiting.size > 0).toBe(waiting.size > 0 && ends.length === atOnce);
          expect(turns.isFree).toBe(ends.length < atOnce);
        }
      }),
    );
  });
});
