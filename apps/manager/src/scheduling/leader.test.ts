import type { Leases } from '@backend.ai/coordination';
import type { RequestId } from '@backend.ai/core';
import { currentRequestId, runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { FakeClock, waitFor } from '@backend.ai/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { Leader } from './leader.ts';

const leases: Leases = {
  acquire: async (name, holder) => ({ name, holder, epoch: 3, renew: async () => true, release: async () => {} }),
};
const asked = 'asked-by-a-user' as RequestId;

describe('a duty of the leader', () => {
  const clock = new FakeClock();
  let leader: Leader<'work'>;
  afterEach(() => leader.stop());

  it('runs for its cause, and its own retries have ids of their own', async () => {
    const passes: Array<RequestId | undefined> = [];
    leader = new Leader<'work'>({
      leases,
      holder: 'me',
      ttlMs: 10_000,
      tickMs: 60_000,
      clock,
      logger: silentLogger,
      duties: (again) => ({
        work: {
          name: 'work',
          run: async () => {
            passes.push(currentRequestId());
            // A timer inherits the context in which it is set.
            if (passes.length === 2) clock.setTimer(1_000, () => again('work'));
          },
        },
      }),
    });
    leader.start();
    await waitFor(() => passes.length === 1);
    runWithRequest({ requestId: asked }, () => leader.hint('work', currentRequestId()));
    await waitFor(() => passes.length === 2);
    await clock.advance(1_000);
    await waitFor(() => passes.length === 3);
    runWithRequest({ requestId: asked }, () => leader.hint('work', undefined));
    await waitFor(() => passes.length === 4);
    expect(passes[1]).toBe(asked);
    expect(passes.filter((id) => id === asked)).toHaveLength(1);
    expect(new Set(passes).size).toBe(4);
  });
});
