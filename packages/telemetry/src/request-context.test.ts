import type { RequestId } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { currentRequestId, ensureRequestId, requireRequestId, runWithRequest } from './request-context.ts';

const id = (text: string): RequestId => text as RequestId;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('an id follows awaits, and requests at the same time keep apart', async () => {
  const work = async (): Promise<Array<RequestId | undefined>> => {
    const seen = [currentRequestId()];
    await tick();
    seen.push(currentRequestId());
    await Promise.all([tick(), tick()]);
    return [...seen, currentRequestId()];
  };
  const [one, two] = await Promise.all(['one', 'two'].map((name) => runWithRequest({ requestId: id(name) }, work)));
  expect(one).toEqual(['one', 'one', 'one']);
  expect(two).toEqual(['two', 'two', 'two']);
  expect(currentRequestId()).toBeUndefined();
});

it('ensureRequestId keeps the present id, takes a given one, or makes one', () => {
  runWithRequest({ requestId: id('present'), actor: 'me' }, () => {
    expect(ensureRequestId(() => currentRequestId())).toBe('present');
    expect(ensureRequestId(() => currentRequestId(), id('cause'))).toBe('cause');
  });
  expect(ensureRequestId(() => currentRequestId())).toMatch(/^[0-9a-f-]{36}$/);
});

it('code outside of requests gets a fresh id each time', () => {
  expect(requireRequestId()).not.toBe(requireRequestId());
});
