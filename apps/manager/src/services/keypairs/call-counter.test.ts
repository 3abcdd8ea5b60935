import { InProcessLiveValues } from '@backend.ai/coordination';
import { AppError, deferred } from '@backend.ai/core';
import { FakeClock } from '@backend.ai/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CallCounter } from './call-counter.ts';

/** Answers when told. */
class SlowValues extends InProcessLiveValues {
  readonly increments: Array<{ key: string; by: number }> = [];
  #gate = deferred();
  failing = false;

  override async increment(key: string, windowMs: number, by = 1) {
    this.increments.push({ key, by });
    await this.#gate.promise;
    if (this.failing) throw new AppError('server-unreachable', 'No Redis.');
    return await super.increment(key, windowMs, by);
  }

  answer(): void {
    const { resolve } = this.#gate;
    this.#gate = deferred();
    resolve();
  }
}

/** So low that none of it is taken ahead. */
const low = 10;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('calls that are counted', () => {
  it('wait for one exchange at a time and share the next, each with a count of its own', async () => {
    const values = new SlowValues();
    const counter = new CallCounter(values, new FakeClock(), 900_000);
    const first = counter.count('A', 1, low);
    await turn();
    const meanwhile = [counter.count('A', 1, low), counter.count('A', 3, low), counter.count('A', 1, low)];
    await turn();
    expect(values.increments).toEqual([{ key: 'rate:A', by: 1 }]);
    values.answer();
    expect(await first).toBe(1);
    await turn();
    expect(values.increments.slice(1)).toEqual([{ key: 'rate:A', by: 5 }]);
    values.answer();
    expect(await Promise.all(meanwhile)).toEqual([2, 5, 6]);
    const later = counter.count('A', 1, low);
    await turn();
    values.answer();
    expect(await later).toBe(7);
  });

  it('of different keys do not wait for each other', async () => {
    const values = new SlowValues();
    const counter = new CallCounter(values, new FakeClock(), 900_000);
    const counts = [counter.count('A', 1, low), counter.count('B', 2, low)];
    await turn();
    expect(values.increments).toHaveLength(2);
    values.answer();
    expect(await Promise.all(counts)).toEqual([1, 2]);
  });

  it('fail with their own exchange only', async () => {
    const values = new SlowValues();
    const counter = new CallCounter(values, new FakeClock(), 900_000);
    const failing = counter.count('A', 1, low);
    await turn();
    const next = counter.count('A', 1, low);
    values.failing = true;
    values.answer();
    await expect(failing).rejects.toMatchObject({ code: 'server-unreachable' });
    await turn();
    values.failing = false;
    values.answer();
    expect(await next).toBe(1);
  });

  it('are counted exactly once by several managers together', async () => {
    const values = new InProcessLiveValues();
    const counters = [
      new CallCounter(values, new FakeClock(), 900_000),
      new CallCounter(values, new FakeClock(), 900_000),
    ];
    const counts = await Promise.all(Array.from({ length: 100 }, (_, i) => counters[i % 2]?.count('A', 1, low)));
    expect(counts.sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });

  it('take counts ahead, which need no exchange until they are used up or the window ends', async () => {
    const values = new InProcessLiveValues();
    const [clock, asked] = [new FakeClock(), [] as number[]];
    const increment = values.increment.bind(values);
    values.increment = (key, windowMs, by = 1) => {
      asked.push(by);
      return increment(key, windowMs, by);
    };
    const counter = new CallCounter(values, clock, 900_000);
    const counts: number[] = [];
    for (let i = 0; i < 8; i++) counts.push(await counter.count('A', 1, 1_000));
    expect([counts, asked]).toEqual([
      [1, 2, 3, 4, 5, 6, 7, 8],
      [6, 6],
    ]);
    await clock.advance(900_000);
    await counter.count('A', 1, 1_000);
    expect(asked).toEqual([6, 6, 6]);
  });

  it('never pass a limit together, however many managers take counts ahead, and miss little of it', async () => {
    const fewCalls = fc.record({ manager: fc.nat(3), calls: fc.integer({ min: 1, max: 4 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 900 }),
        fc.array(fewCalls, { minLength: 300, maxLength: 1_000 }),
        async (limit, all) => {
          const values = new InProcessLiveValues();
          const managers = Array.from({ length: 4 }, () => new CallCounter(values, new FakeClock(), 900_000));
          const counted = await Promise.all(
            all.map(async ({ manager, calls }) => ({
              calls,
              count: await managers[manager]!.count('A', calls, limit),
            })),
          );
          const passed = counted.filter(({ count }) => count <= limit).reduce((sum, { calls }) => sum + calls, 0);
          const called = all.reduce((sum, { calls }) => sum + calls, 0);
          expect(passed).toBeLessThanOrEqual(limit);
          // A batch that is too large passes nothing of what is left.
          const missed = 4 * (Math.floor(limit / 200) + 3);
          expect(passed).toBeGreaterThanOrEqual(Math.min(limit, called) - missed);
        },
      ),
      { numRuns: 50 },
    );
  });
});
