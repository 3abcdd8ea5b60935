import { expect, it } from 'vitest';
import { Turns } from './turns.ts';

it('no more than so many run at once, all do in the end, and one that fails makes room', async () => {
  const turns = new Turns(2);
  const ends: Array<() => void> = [];
  let [most, ended] = [0, 0];
  const started: number[] = [];
  const all = Array.from({ length: 5 }, (_, at) =>
    turns.run(async () => {
      started.push(at);
      most = Math.max(most, started.length - ended);
      await new Promise<void>((resolve) => ends.push(resolve));
      ended += 1;
      if (at === 1) throw new Error('fell over');
    }),
  );
  const settled = Promise.allSettled(all);
  await Promise.resolve();
  expect(started).toEqual([0, 1]);
  for (let at = 0; at < 5; at += 1) {
    ends[at]?.();
    await all[at]?.catch(() => undefined);
    await Promise.resolve();
  }
  expect((await settled).map(({ status }) => status)).toEqual([
    'fulfilled',
    'rejected',
    'fulfilled',
    'fulfilled',
    'fulfilled',
  ]);
  expect([started, most]).toEqual([[0, 1, 2, 3, 4], 2]);
});
