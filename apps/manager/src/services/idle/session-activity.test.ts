import { InProcessLiveValues } from '@backend.ai/coordination';
import { BackgroundTasks } from '@backend.ai/telemetry';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { SessionActivity } from './session-activity.ts';

function world() {
  const clock = new FakeClock();
  const { logger } = collectLogs('manager');
  const tasks = new BackgroundTasks(logger);
  const liveValues = new InProcessLiveValues(clock);
  const manager = () => {
    const activity = new SessionActivity({ liveValues, clock, tasks, logger });
    onTestFinished(() => activity.stop());
    return activity;
  };
  const idleMs = async (activity: SessionActivity) => {
    await tasks.drain();
    const at = await activity.lastAccess('s');
    return at === undefined ? undefined : clock.now() - at;
  };
  return { clock, manager, idleMs };
}

it('a session is in use as long as a call goes on, for every manager', async () => {
  const { clock, manager, idleMs } = world();
  const [here, there] = [manager(), manager()];
  let finish = (): void => {};
  const call = here.during('s', () => new Promise<void>((resolve) => (finish = resolve)));
  await clock.advance(3_600_000);
  expect(await idleMs(there)).toBeLessThanOrEqual(5_000);
  finish();
  await call;
  await clock.advance(600_000);
  expect(await idleMs(there)).toBeGreaterThanOrEqual(595_000);
  expect(clock.pendingTimers).toBeLessThanOrEqual(1);
});

it('a call that fails was one all the same', async () => {
  const { manager, idleMs } = world();
  const activity = manager();
  await expect(activity.during('s', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await idleMs(activity)).toBe(0);
});

it('what one manager knew its successor knows', async () => {
  const { clock, manager, idleMs } = world();
  const first = manager();
  first.begin('s')();
  await clock.advance(60_000);
  expect(await idleMs(first)).toBe(60_000);
  first.stop();
  expect(await idleMs(manager())).toBe(60_000);
});

it('counting begins once for a session that nobody has used', async () => {
  const { clock, manager, idleMs } = world();
  const activity = manager();
  expect(await idleMs(activity)).toBeUndefined();
  await activity.startCounting('s');
  await clock.advance(60_000);
  await activity.startCounting('s');
  expect(await idleMs(activity)).toBe(60_000);
  activity.forget('s');
  expect(await idleMs(activity)).toBeUndefined();
});

it('how long a session that is looked at was unused is known for more than a week', async () => {
  const { clock, manager, idleMs } = world();
  const activity = manager();
  const day = 86_400_000;
  for (let days = 0; days < 10; days++) {
    await activity.startCounting('s');
    await clock.advance(day);
  }
  expect(await idleMs(activity)).toBe(10 * day);
  await clock.advance(7 * day);
  expect(await idleMs(activity)).toBeUndefined();
});
