import { expect, it } from 'vitest';
import { waitFor } from './wait-for.ts';

it('gives back the first truthy value', async () => {
  let count = 0;
  expect(await waitFor(() => ++count > 2 && count)).toBe(3);
});

it('tells what it waited for and what it saw last', async () => {
  const asking = waitFor(() => null, { timeoutMs: 20, what: 'the moon' });
  await expect(asking).rejects.toThrow(/in vain for: the moon\nlast value null/);
  const failing = waitFor(
    () => {
      throw new Error('still dark');
    },
    { timeoutMs: 20 },
  );
  await expect(failing).rejects.toThrow(/last failure: still dark/);
});
