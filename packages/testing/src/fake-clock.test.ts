import { describe, expect, it } from 'vitest';
import { FakeClock } from './fake-clock.ts';

describe('FakeClock', () => {
  it('runs timers in the order of their times, at their times', async () => {
    const clock = new FakeClock();
    const seen: Array<[string, number]> = [];
    const note = (name: string) => () => void seen.push([name, clock.monotonic()]);
    clock.setTimer(30, note('late'));
    clock.setTimer(10, note('early'));
    clock.setTimer(10, note('early too'));
    await clock.advance(29);
    expect(seen).toEqual([
      ['early', 10],
      ['early too', 10],
    ]);
    await clock.advance(1);
    expect(seen.at(-1)).toEqual(['late', 30]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('runs timers that timers and their promises set on the way', async () => {
    const clock = new FakeClock(1_000);
    const seen: number[] = [];
    const again = (): void => {
      seen.push(clock.now());
      void Promise.resolve().then(() => clock.setTimer(10, again));
    };
    clock.setTimer(10, again);
    await clock.advance(35);
    expect(seen).toEqual([1_010, 1_020, 1_030]);
    expect(clock.now()).toBe(1_035);
  });

  it('forgets cancelled timers', async () => {
    const clock = new FakeClock();
    let ran = false;
    clock.setTimer(10, () => {
      ran = true;
    })();
    await clock.advance(20);
    expect(ran).toBe(false);
  });
});
