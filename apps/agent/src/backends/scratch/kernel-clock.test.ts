import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@backend.ai/testing';
import fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { KernelClock } from './kernel-clock.ts';

function world() {
  const folder = mkdtempSync(join(tmpdir(), 'kernel-clock-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const clock = new FakeClock();
  return { clock, start: (paused = false) => new KernelClock({ clock, paused, file: join(folder, 'clock.json') }) };
}

it('a timer rings after its time without pauses, and one that was cancelled in a pause never', async () => {
  const { clock, start } = world();
  const kernel = start();
  const rung: string[] = [];
  kernel.setTimer(1_000, () => rung.push('kept'));
  const cancel = kernel.setTimer(1_000, () => rung.push('cancelled'));
  await clock.advance(600);
  kernel.hold(true);
  kernel.hold(true);
  await clock.advance(60_000);
  cancel();
  kernel.setTimer(500, () => rung.push('set in the pause'));
  kernel.hold(false);
  await clock.advance(399);
  expect(rung).toEqual([]);
  await clock.advance(1);
  expect(rung).toEqual(['kept']);
  await clock.advance(100);
  expect(rung).toEqual(['kept', 'set in the pause']);
});

it('goes on under the next agent where it was, whether that finds the kernel paused, or resumed without a word', async () => {
  const { clock, start } = world();
  const first = start();
  const began = first.now();
  await clock.advance(1_000);
  first.hold(true);
  await clock.advance(5_000);
  const second = start(true);
  expect(second.now() - began).toBe(1_000);
  await clock.advance(5_000);
  expect(start(false).now() - began).toBe(1_000);
  second.hold(false);
  await clock.advance(2_000);
  expect(start(false).now() - began).toBe(3_000);
  const paused = start(true);
  await clock.advance(9_000);
  expect(paused.now() - began).toBe(3_000);
});

it('counts what the dead agent did not tell from its next start on, however often it is started after that', async () => {
  const { clock, start } = world();
  const began = start().now();
  await clock.advance(1_000);
  start(true);
  for (const ms of [2_000, 3_000]) {
    await clock.advance(ms);
    expect(start(true).now() - began).toBe(1_000);
  }
  start(false);
  for (const ms of [4_000, 5_000]) {
    await clock.advance(ms);
    start(false);
  }
  expect(start(false).now() - began).toBe(10_000);
});

it('whatever pauses and restarts there are, it has gone on for exactly the time that the kernel ran', async () => {
  // An agent may die between the change and its word of it.
  const change = fc.record({ paused: fc.boolean(), died: fc.boolean() });
  const step = fc.record({ ms: fc.nat(10_000), what: fc.oneof(change, fc.constant('restart' as const)) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const { clock, start } = world();
      let kernel = start();
      const began = kernel.now();
      let [paused, ranMs] = [false, 0];
      for (const { ms, what } of steps) {
        await clock.advance(ms);
        if (!paused) ranMs += ms;
        if (what !== 'restart') paused = what.paused;
        if (what === 'restart' || what.died) kernel = start(paused);
        else kernel.hold(paused);
        expect(kernel.now() - began).toBe(ranMs);
      }
    }),
  );
});
