import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { Breaker } from './breaker.ts';

it('an engine that did not answer twice is left alone for a while, then one call tries', async () => {
  const clock = new FakeClock();
  const breaker = new Breaker(clock);
  breaker.unanswered();
  breaker.check();
  breaker.unanswered();
  expect(() => breaker.check()).toThrow('does not answer');
  await clock.advance(5_000);
  breaker.check();
  expect(() => breaker.check()).toThrow('does not answer');
  breaker.answered();
  breaker.check();
});
