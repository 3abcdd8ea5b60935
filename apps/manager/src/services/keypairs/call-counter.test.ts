import { InProcessLiveValues } from '@backend.ai/coordination';
import { AppError, deferred } from '@backend.ai/core';
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

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('calls that are counted', () => {
  it('wait for one exchange at a time and share the next, each with a count of its own', async () => {
    const values = new SlowValues();
    const counter = new CallCounter(values, 900_000);
    const first = counter.count('A', 1);
    await turn();
    const meanwhile = [counter.count('A', 1), counter.count('A', 3), counter.count('A', 1)];
    await turn();
    expect(values.increments).toEqual([{ key: 'rate:A', by: 1 }]);
    values.answer();
    expect(await first).toBe(1);
    await turn();
    expect(values.increments.slice(1)).toEqual([{ key: 'rate:A', by: 5 }]);
    values.answer();
    expect(await Promise.all(meanwhile)).toEqual([2, 5, 6]);
    const later = counter.count('A', 1);
    await turn();
    values.answer();
    expect(await later).toBe(7);
  });

  it('of different keys do not wait for each other', async () => {
    const values = new SlowValues();
    const counter = new CallCounter(values, 900_000);
    const counts = [counter.count('A', 1), counter.count('B', 2)];
    await turn();
    expect(values.increments).toHaveLength(2);
    values.answer();
    expect(await Promise.all(counts)).toEqual([1, 2]);
  });

  it('fail with their own exchange only', async () => {
    const values = new SlowValues();
    const counter = new CallCounter(values, 900_000);
    const failing = counter.count('A', 1);
    await turn();
    const next = counter.count('A', 1);
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
    const counters = [new CallCounter(values, 900_000), new CallCounter(values, 900_000)];
    const counts = await Promise.all(Array.from({ length: 100 }, (_, i) => counters[i % 2]?.count('A', 1)));
    expect(counts.sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });
});
