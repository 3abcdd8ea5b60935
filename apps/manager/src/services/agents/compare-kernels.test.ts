import type { Heartbeat } from '@backend.ai/contract';
import type { KernelStatus } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { compareKernels } from './compare-kernels.ts';

const kernel = (status: KernelStatus, paused = false) => ({ kernelId: 'k', sessionId: 's', status, paused });
const heartbeat = (state: Heartbeat['kernels'][number]['state'] | undefined, lastEventSeq = 5): Heartbeat => ({
  agentId: 'a',
  bootId: 'b',
  lastEventSeq,
  kernels:
    state === undefined
      ? []
      : [
          {
            kernelId: 'k',
            sessionId: 's',
            state,
            slots: {},
            exitCode: null,
            reason: null,
            requestId: 'r',
            isolation: null,
          },
        ],
});

describe('comparing kernels', () => {
  it.each([
    ['RUNNING', 'running', {}],
    ['RUNNING', undefined, { lost: 1 }],
    ['RUNNING', 'terminated', { ended: 1 }],
    ['RUNNING', 'terminating', {}],
    ['CREATING', undefined, { lost: 1 }],
    ['PREPARING', undefined, {}],
    ['PREPARING', 'running', { running: 1 }],
    ['PREPARING', 'preparing', {}],
    ['TERMINATING', undefined, { ended: 1 }],
    ['TERMINATING', 'running', {}],
  ] as const)('%s here and %s there', (status, state, expected) => {
    const { unknown, lost, running, ended } = compareKernels(heartbeat(state), [kernel(status)], 5);
    const none = { unknown: 0, lost: 0, running: 0, ended: 0 };
    const found = { unknown: unknown.length, lost: lost.length, running: running.length, ended: ended.length };
    expect(found).toEqual({ ...none, ...expected });
  });

  it.each([
    ['RUNNING', 1],
    ['TERMINATING', 0],
  ] as const)('hears of a batch job that has ended while its kernel is %s', (status, count) => {
    const batch = { result: 'success', exitCode: 0, reason: 'task-finished' } as const;
    const beat = heartbeat('running');
    const told = { ...beat, kernels: beat.kernels.map((report) => ({ ...report, batch })) };
    const { finished } = compareKernels(told, [kernel(status)], 5);
    expect(finished.map((each) => each.batch)).toEqual(Array(count).fill(batch));
    expect(compareKernels({ ...told, lastEventSeq: 6 }, [kernel(status)], 5).finished).toEqual([]);
  });

  it('believes no heartbeat that knows less or more than what was acknowledged', () => {
    for (const seq of [4, 6]) {
      const { lost, ended, running } = compareKernels(heartbeat(undefined, seq), [kernel('RUNNING')], 5);
      expect([lost, ended, running]).toEqual([[], [], []]);
    }
  });

  it('names what is there and not ours, whatever the numbers', () => {
    expect(compareKernels(heartbeat('running', 9), [], 5).unknown).toEqual(['k']);
  });
});
