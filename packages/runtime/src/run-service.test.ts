import { type Clock, deferred, type RequestId, systemClock } from '@backend.ai/core';
import { createLogger, runWithRequest } from '@backend.ai/telemetry';
import { describe, expect, it } from 'vitest';
import { type RunningService, runService } from './run-service.ts';

/** Deadlines pass at once. */
const impatient: Clock = { ...systemClock, setTimer: (_ms, callback) => systemClock.setTimer(0, callback) };
const never = new Promise<never>(() => {});

function world(service: Partial<RunningService> = {}) {
  const events: string[] = [];
  const requestIds: (string | null)[] = [];
  const signal = deferred<NodeJS.Signals>();
  const logger = createLogger({
    component: 'test',
    destination: {
      write(line) {
        const record = JSON.parse(line) as { msg: string; request_id: string | null };
        events.push(record.msg);
        requestIds.push(record.request_id);
      },
    },
  });
  const running: RunningService = {
    addresses: {},
    stop: async () => void events.push('stop'),
    ...service,
  };
  const options = {
    start: async () => running,
    signal: signal.promise,
    stopDeadlineMs: 60_000,
    logger,
    onReady: () => void events.push('ready'),
    onStopping: (name: string) => void events.push(name),
  };
  return { events, requestIds, signal, options, running };
}

describe('a service', () => {
  it('runs until a signal, drains, and ends with 0', async () => {
    const { events, signal, options } = world();
    const code = runService({ ...options, onReady: () => signal.resolve('SIGTERM') });
    expect(await code).toBe(0);
    expect(events).toEqual(['service is ready', 'SIGTERM', 'service is stopping', 'stop', 'service has stopped']);
  });

  it('logs all its life under one request id: the given one, or one of its own', async () => {
    const lives = [undefined, 'req-start' as RequestId].map(async (requestId) => {
      const { options, requestIds, signal } = world();
      const begun = { ...options, onReady: () => signal.resolve('SIGTERM') };
      await (requestId ? runWithRequest({ requestId }, () => runService(begun)) : runService(begun));
      return requestIds;
    });
    const [own = [], given] = await Promise.all(lives);
    expect(own).toEqual([expect.any(String), own[0], own[0]]);
    expect(given).toEqual(['req-start', 'req-start', 'req-start']);
  });

  it('ends with 1 when draining fails or takes too long', async () => {
    const failing = world({ stop: () => Promise.reject(new Error('no')) });
    failing.signal.resolve('SIGINT');
    expect(await runService(failing.options)).toBe(1);
    expect(failing.events).toContain('service did not stop cleanly');
    const slow = world({ stop: () => never });
    slow.signal.resolve('SIGINT');
    expect(await runService({ ...slow.options, clock: impatient })).toBe(1);
    expect(slow.events).toContain('service did not stop in time');
  });

  it('that is told to end while it starts is stopped when it has started', async () => {
    const { events, signal, options, running } = world();
    const started = deferred<RunningService>();
    const code = runService({ ...options, start: () => started.promise, onStopping: () => started.resolve(running) });
    signal.resolve('SIGTERM');
    expect(await code).toBe(0);
    expect(events).toEqual(['stop', 'service has stopped']);
  });

  it('that never finishes starting ends at the deadline', async () => {
    const { signal, options, events } = world();
    signal.resolve('SIGTERM');
    expect(await runService({ ...options, start: () => never, clock: impatient })).toBe(1);
    expect(events).toEqual(['SIGTERM', 'service did not finish starting in time to be stopped']);
  });

  it('that cannot start or go on says why; what has started is stopped', async () => {
    const { options } = world();
    await expect(runService({ ...options, start: () => Promise.reject(new Error('no database')) })).rejects.toThrow(
      'no database',
    );
    const failing = world({ failure: Promise.reject(new Error('lost its lock')) });
    await expect(runService(failing.options)).rejects.toThrow('lost its lock');
    expect(failing.events).toEqual([
      'ready',
      'service is ready',
      'service cannot go on',
      'stop',
      'service has stopped',
    ]);
  });
});
