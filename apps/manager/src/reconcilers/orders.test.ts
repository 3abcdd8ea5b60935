import { systemClock } from '@backend.ai/core';
import { BackgroundTasks, silentLogger } from '@backend.ai/telemetry';
import { describe, expect, it } from 'vitest';
import { StartSessions } from './start-sessions.ts';
import { TerminateSessions } from './terminate-sessions.ts';

/** Orders as they leave. */

interface Sent {
  readonly what: string;
  readonly epoch: unknown;
}

function loops(kernels: object[]) {
  const sent: Sent[] = [];
  const order = (what: string) => (_input: unknown, options: { context: { epoch?: number } }) => {
    sent.push({ what, epoch: options.context.epoch });
    return Promise.resolve({ accepted: true });
  };
  const api = {
    createKernel: { mutate: order('create') },
    destroyKernel: { mutate: order('destroy') },
    checkKernel: { query: order('check') },
  };
  const tasks = new BackgroundTasks(silentLogger);
  const options = {
    tasks,
    clock: systemClock,
    logger: silentLogger,
    askAgainMs: 60_000,
    orderDeadlineMs: 1_000,
    again: () => {},
    changes: { announce: () => {}, onChange: () => () => {} },
    kernels: { preparing: async () => kernels, ending: async () => kernels },
    clients: { call: (_agent: string, work: (given: typeof api) => unknown) => work(api) },
    startSettled: async () => {},
    imageSources: { of: () => undefined },
  };
  type Options = ConstructorParameters<typeof StartSessions>[0] & ConstructorParameters<typeof TerminateSessions>[0];
  const given = options as unknown as Options;
  return { sent, tasks, start: new StartSessions(given), terminate: new TerminateSessions(given) };
}

describe('an order', () => {
  const kernel = {
    kernelId: 'k',
    sessionId: 's',
    agentId: 'a',
    requestId: 'r',
    data: {},
    options: {},
    ageMs: 0,
    reason: 'x',
  };

  it('carries the epoch of the term in which it was decided, whenever it leaves', async () => {
    const { sent, tasks, start, terminate } = loops([kernel]);
    start.begin([kernel] as never, 5);
    await start.run(6);
    await tasks.drain();
    expect(sent).toEqual([{ what: 'create', epoch: 5 }]);
    const later = loops([kernel]);
    await later.start.run(7);
    await later.terminate.run(8);
    await later.tasks.drain();
    later.terminate.stop();
    expect(later.sent).toEqual([
      { what: 'check', epoch: 7 },
      { what: 'destroy', epoch: 8 },
    ]);
    terminate.stop();
  });
});
