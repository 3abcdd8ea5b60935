import { transientDeadlines } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { createWorld } from './world.ts';

/** What an agent tells of a start that goes no further, and how long that may last here: in milliseconds. */
const standstills = [
  ['PREPARING', undefined, 300],
  ['PULLING', 'kernel-pulling', 400],
  ['CREATING', 'kernel-creating', 500],
] as const;

it.each(standstills)(
  'a session that stands still in %s ends when its time is over, as configured',
  async (status, told, deadlineMs) => {
    const world = await createWorld({ config: { deadlinesMs: { [status]: deadlineMs } } });
    onTestFinished(() => world.close());
    const agent = await world.addAgent('i-one');
    agent.behaviour = 'stall';
    const { id } = await world.create();
    const kernelId = await waitFor(() => [...agent.kernels.keys()][0], { what: 'the order' });
    if (told) agent.tell(kernelId, { type: told });
    await world.until(id, 'TERMINATED');
    const history = await world.manager.services.api.session.history({ session: id }, world.ctx());
    const { next, reason, afterMs } = transientDeadlines[status]!;
    expect(afterMs).not.toBe(deadlineMs);
    const end = history.find(({ from }) => from === status);
    expect(end).toMatchObject({ to: next, reason: { code: reason, data: { after: status, deadlineMs } } });
    expect(agent.kernels.size).toBe(0);
    expect(await world.manager.services.verifyLedger()).toEqual([]);
  },
);
