import { type Clock, deferred, type RequestId } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { BackgroundTasks, ReconcileLoop } from './background.ts';
import { type Logger, silentLogger } from './logger.ts';
import { currentRequestId, runWithRequest } from './request-context.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Timers that fire when told. */
class ManualClock implements Clock {
  readonly timers = new Map<() => void, number>();
  now = (): number => 0;
  monotonic = (): number => 0;
  setTimer(ms: number, callback: () => void): () => void {
    this.timers.set(callback, ms);
    return () => this.timers.delete(callback);
  }
  async fire(): Promise<void> {
    for (const callback of [...this.timers.keys()]) {
      this.timers.delete(callback);
      callback();
    }
    await turn();
  }
}

describe('BackgroundTasks', () => {
  it('binds an id, logs what fails and waits for what tasks start', async () => {
    const seen: unknown[] = [];
    const errors: unknown[] = [];
    const logger: Logger = { ...silentLogger, error: (_message, fields) => void errors.push(fields?.task) };
    const tasks = new BackgroundTasks(logger);
    runWithRequest({ requestId: 'req-1' as RequestId }, () => {
      tasks.start('outer', async () => {
        await turn();
        tasks.start('inner', async () => {
          await turn();
          seen.push(currentRequestId());
          throw new Error('fails');
        });
      });
    });
    await tasks.drain();
    expect(seen).toEqual(['req-1']);
    expect(errors).toEqual(['inner']);
  });
});

describe('ReconcileLoop', () => {
  it('runs at its start, when hinted and on its tick', async () => {
    const clock = new ManualClock();
    let passes = 0;
    const loop = new ReconcileLoop({
      name: 'l',
      tickMs: 1_000,
      clock,
      logger: silentLogger,
      run: async () => void passes++,
    });
    loop.start();
    await turn();
    expect(passes).toBe(1);
    loop.hint();
    await turn();
    expect(passes).toBe(2);
    expect([...clock.timers.values()]).toEqual([1_000]);
    await clock.fire();
    expect(passes).toBe(3);
    await loop.stop();
    expect(clock.timers.size).toBe(0);
  });

  it('makes one more pass of any number of hints during a pass', async () => {
    let passes = 0;
    const gate = deferred();
    const loop = new ReconcileLoop({
      name: 'l',
      tickMs: 1_000,
      clock: new ManualClock(),
      logger: silentLogger,
      run: async () => {
        passes += 1;
        if (passes === 1) await gate.promise;
      },
    });
    loop.start();
    await turn();
    loop.hint();
    loop.hint();
    loop.hint();
    gate.resolve();
    await turn();
    expect(passes).toBe(2);
    await loop.stop();
  });

  it('backs off after failures although hints come, and recovers', async () => {
    const clock = new ManualClock();
    let passes = 0;
    const failures: unknown[] = [];
    const loop = new ReconcileLoop({
      name: 'l',
      tickMs: 1_000,
      clock,
      logger: { ...silentLogger, error: (_message, fields) => void failures.push(fields?.failures) },
      run: async () => {
        passes += 1;
        if (passes < 3) throw new Error('fails');
      },
    });
    loop.start();
    await turn();
    loop.hint();
    await turn();
    expect(passes).toBe(1);
    expect([...clock.timers.values()][0]).toBeLessThanOrEqual(50);
    await clock.fire();
    expect(passes).toBe(2);
    expect([...clock.timers.values()][0]).toBeLessThanOrEqual(100);
    await clock.fire();
    expect(passes).toBe(3);
    expect(failures).toEqual([1, 2]);
    expect([...clock.timers.values()]).toEqual([1_000]);
    await loop.stop();
  });

  it('waits for the running pass when it stops', async () => {
    const gate = deferred();
    let ended = false;
    const loop = new ReconcileLoop({
      name: 'l',
      tickMs: 1_000,
      clock: new ManualClock(),
      logger: silentLogger,
      run: async () => {
        await gate.promise;
        ended = true;
      },
    });
    loop.start();
    await turn();
    const stopped = loop.stop();
    gate.resolve();
    await stopped;
    expect(ended).toBe(true);
    await loop.settle();
  });

  it('runs under the id of the one hint, and under a new one when several asked', async () => {
    const seen: Array<string | undefined> = [];
    const loop = new ReconcileLoop({
      name: 'l',
      tickMs: 1_000,
      clock: new ManualClock(),
      logger: silentLogger,
      run: async () => void seen.push(currentRequestId()),
    });
    loop.start();
    await turn();
    loop.hint('req-1' as RequestId);
    await turn();
    loop.hint('req-2' as RequestId);
    loop.hint('req-3' as RequestId);
    await loop.settle();
    expect(seen[1]).toBe('req-1');
    expect(['req-2', 'req-3']).not.toContain(seen[2]);
    await loop.stop();
  });
});
