import { FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { PasswordAttempts } from './password-attempts.ts';

it('an attempt that was wrong is answered after a second, and until then its user has no other', async () => {
  const clock = new FakeClock();
  const attempts = new PasswordAttempts(clock);
  const wrong = attempts.try('u', async () => false);
  await expect(attempts.try('u', async () => true)).rejects.toMatchObject({ code: 'rate-limited' });
  expect(await attempts.try('other', async () => true)).toBe(true);
  let answered = false;
  void wrong.then(() => {
    answered = true;
  });
  await clock.advance(999);
  expect(answered).toBe(false);
  await clock.advance(1);
  expect(await wrong).toBe(false);
  expect(await attempts.try('u', async () => true)).toBe(true);
});
