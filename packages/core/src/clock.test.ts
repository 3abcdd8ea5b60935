import { describe, expect, it } from 'vitest';
import { type Clock, within } from './clock.ts';
import { deferred } from './deferred.ts';

/** One timer at most, set off by hand. */
function clockOfOneTimer(): Clock & { due: (() => void) | undefined } {
  const clock = {
    due: undefined as (() => void) | undefined,
    now: () => 0,
    monotonic: () => 0,
    setTimer: (_ms: number, callback: () => void) => {
      clock.due = callback;
      return () => {
        clock.due = undefined;
      };
    },
  };
  return clock;
}

describe('waiting for work for so long at most', () => {
  it('ends with the work and leaves no timer', async () => {
    const clock = clockOfOneTimer();
    await within(clock, 1000, Promise.resolve());
    await new Promise(setImmediate);
    expect(clock.due).toBeUndefined();
  });

  it('ends at the deadline, whatever becomes of the work after it', async () => {
    const clock = clockOfOneTimer();
    const work = deferred();
    const waited = within(clock, 1000, work.promise);
    clock.due?.();
    await waited;
    work.reject(new Error('too late to be heard'));
    await new Promise(setImmediate);
  });

  it('fails as the work does, and leaves no timer', async () => {
    const clock = clockOfOneTimer();
    await expect(within(clock, 1000, Promise.reject(new Error('it broke')))).rejects.toThrow('it broke');
    await new Promise(setImmediate);
    expect(clock.due).toBeUndefined();
  });
});
