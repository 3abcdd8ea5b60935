import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Queue } from './queue.ts';

it('behaves as an array does', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.integer(), fc.constant('shift' as const)), { maxLength: 5_000 }), (steps) => {
      const queue = new Queue<number>();
      const model: number[] = [];
      for (const step of steps) {
        if (step === 'shift') expect(queue.shift()).toBe(model.shift());
        else {
          queue.push(step);
          model.push(step);
        }
        expect(queue.length).toBe(model.length);
      }
    }),
    { numRuns: 50 },
  );
});

it('gives its memory back while it is used without ever being empty', () => {
  const queue = new Queue<number>();
  queue.push(-1);
  for (let index = 0; index < 10_000; index++) {
    queue.push(index);
    expect(queue.shift()).toBe(index - 1);
  }
  expect(queue.length).toBe(1);
});
