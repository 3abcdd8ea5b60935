import { AppError } from '@backend.ai/core';
import type { Plan } from '@backend.ai/scheduler';
import { silentLogger } from '@backend.ai/telemetry';
import { FakeClock } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { ScheduleSessions, type ScheduleSessionsOptions } from './schedule-sessions.ts';

const placements = ['a', 'b', 'c'].map((sessionId) => ({ sessionId, kernels: [], decision: [] }));
const plan: Plan = {
  ...{ placements, reservations: [], reasons: new Map(), attempted: [], deprioritised: [], expired: [] },
  roundRobin: {},
};

/** Of three placements: what was tried by itself, and what was begun. */
async function pass(failureOf: (sessionId: string) => Error | undefined) {
  const tried: string[] = [];
  const begun: string[] = [];
  const schedule = new ScheduleSessions({
    memory: {
      refresh: async () => {},
      awaiting: new Map(),
      queueLength: 3,
      plan: () => plan,
      news: () => ({ reasons: [], wakeAt: Number.POSITIVE_INFINITY }),
      planned: () => {},
      placed: () => {},
      forgetAll: () => {},
    },
    transitions: {
      placeAll: async () => {
        throw failureOf('a') ?? new Error('check violated');
      },
      place: async ({ sessionId }: { sessionId: string }) => {
        tried.push(sessionId);
        const failure = failureOf(sessionId);
        if (failure) throw failure;
        return [{ sessionId }];
      },
    },
    begin: ([kernel]: readonly [{ sessionId: string }]) => begun.push(kernel.sessionId),
    clock: new FakeClock(),
    logger: silentLogger,
  } as unknown as ScheduleSessionsOptions);
  const failure = await schedule.run(1, new AbortController().signal).catch((error: unknown) => error);
  return { tried, begun, failure };
}

describe('a placement that fails', () => {
  it('is told of once the others have had their turn', async () => {
    const failure = new Error('check violated');
    expect(await pass((sessionId) => (sessionId === 'a' ? failure : undefined))).toEqual({
      tried: ['a', 'b', 'c'],
      begun: ['b', 'c'],
      failure,
    });
  });

  it('ends the pass when the database is away', async () => {
    const failure = new AppError('server-unreachable', 'The database cannot be reached.');
    expect(await pass(() => failure)).toEqual({ tried: [], begun: [], failure });
  });
});
