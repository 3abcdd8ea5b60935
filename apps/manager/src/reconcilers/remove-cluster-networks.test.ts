import { AppError } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { RemoveClusterNetworks } from './remove-cluster-networks.ts';

/** Three networks of sessions that have ended; `removing` is told each, and the signal that it is removed with. */
function removal(removing: (sessionId: string, signal: AbortSignal) => Promise<void>) {
  const ofEnded = async () => ['a', 'b', 'c'].map((sessionId) => ({ sessionId, swarmId: 'swarm' }));
  return new RemoveClusterNetworks(
    { ofEnded },
    { remove: ({ sessionId }, _epoch, signal) => removing(sessionId, signal) },
  );
}

it('goes on after a network that cannot go', async () => {
  const asked: string[] = [];
  const work = removal(async (sessionId) => {
    asked.push(sessionId);
    if (sessionId === 'a') throw new AppError('engine-failed', 'It is in use.');
  });
  await expect(work.run(1, new AbortController().signal)).rejects.toMatchObject({ code: 'engine-failed' });
  expect(asked).toEqual(['a', 'b', 'c']);
});

it('asks for no other network once this manager leads no more, and waits for none', async () => {
  const term = new AbortController();
  const asked: string[] = [];
  const work = removal(async (sessionId, signal) => {
    asked.push(sessionId);
    term.abort();
    signal.throwIfAborted();
  });
  await expect(work.run(1, term.signal)).rejects.toMatchObject({ name: 'AbortError' });
  expect(asked).toEqual(['a']);
});
