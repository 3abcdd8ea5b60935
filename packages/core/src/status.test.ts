import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  dependencyState,
  explainReason,
  isTerminal,
  type KernelStatus,
  kernelSourcesOf,
  kernelStatuses,
  kernelStatusesOf,
  kernelTransitions,
  liveStatuses,
  mayFollow,
  promotions,
  type SessionStatus,
  servingStatuses,
  sessionResults,
  sessionStatuses,
  sessionStatusOf,
  sourcesOf,
  statusReasons,
  statusTransitions,
  terminalStatuses,
  transientDeadlines,
} from './status.ts';

const lasting: readonly SessionStatus[] = ['PENDING', ...servingStatuses];
const transient = liveStatuses.filter((status) => !lasting.includes(status));

function reachableFrom<Status extends string>(
  table: Readonly<Record<Status, readonly Status[]>>,
  start: Status,
): Status[] {
  const seen = new Set<Status>([start]);
  for (const status of seen) for (const next of table[status]) seen.add(next);
  return [...seen];
}

describe('the transition table of sessions', () => {
  it.each(transient)('gives %s a deadline and a step that may follow', (status) => {
    const deadline = transientDeadlines[status];
    expect(deadline?.afterMs).toBeGreaterThan(0);
    expect(mayFollow(status, deadline!.next)).toBe(true);
    expect(statusReasons).toHaveProperty([deadline!.reason]);
  });

  it('gives no deadline to states that may last', () => {
    expect(Object.keys(transientDeadlines).sort()).toEqual([...transient].sort());
  });

  it('leads to an end by deadlines alone', () => {
    for (const status of transient) {
      let at: SessionStatus = status;
      for (let steps = 0; transientDeadlines[at] && steps < sessionStatuses.length; steps++) {
        at = transientDeadlines[at]!.next;
      }
      expect(isTerminal(at) || at === 'PENDING', `${status} comes to ${at}`).toBe(true);
    }
  });

  it.each(terminalStatuses)('lets nothing follow %s', (status) => {
    expect(statusTransitions[status]).toEqual([]);
    expect(isTerminal(status)).toBe(true);
  });

  it.each(liveStatuses)('lets %s reach an end', (status) => {
    expect(reachableFrom(statusTransitions, status).some(isTerminal)).toBe(true);
  });

  it('reaches every state from PENDING', () => {
    expect(reachableFrom(statusTransitions, 'PENDING').sort()).toEqual([...sessionStatuses].sort());
  });

  it('reaches RUNNING only through CREATING', () => {
    expect(sourcesOf('RUNNING')).toEqual(['CREATING']);
  });

  it('never leads back from TERMINATING', () => {
    expect(reachableFrom(statusTransitions, 'TERMINATING').filter((next) => !isTerminal(next))).toEqual([
      'TERMINATING',
    ]);
  });

  it('leads back to PENDING from what works only by way of an end of all kernels', () => {
    for (const status of servingStatuses) expect(mayFollow(status, 'PENDING')).toBe(false);
    for (const status of ['RESTARTING', 'RESCHEDULING'] as const) {
      expect(kernelStatusesOf[status].every((kernel) => kernel === 'TERMINATING' || isTerminal(kernel))).toBe(true);
    }
  });

  it('says the same from both sides', () => {
    const status = fc.constantFrom(...sessionStatuses);
    fc.assert(
      fc.property(status, status, (from, to) => {
        expect(sourcesOf(to).includes(from)).toBe(mayFollow(from, to));
        if (from === to) expect(mayFollow(from, to)).toBe(false);
      }),
    );
  });

  it('explains its reasons, and leaves unknown ones as they are', () => {
    expect(explainReason('no-agent')).toBe(statusReasons['no-agent']);
    expect(explainReason('toString')).toBe('toString');
  });
});

describe('the transition table of kernels', () => {
  it('reaches every state from PENDING, and an end from each', () => {
    expect(reachableFrom(kernelTransitions, 'PENDING').sort()).toEqual([...kernelStatuses].sort());
    for (const status of kernelStatuses) {
      expect(reachableFrom(kernelTransitions, status).some(isTerminal), status).toBe(true);
      if (isTerminal(status)) expect(kernelTransitions[status]).toEqual([]);
      for (const to of kernelStatuses) {
        expect(kernelSourcesOf(to).includes(status)).toBe(kernelTransitions[status].includes(to));
      }
    }
  });
});

describe('a session that others depend on', () => {
  it('lets them go on once it has ended after success, however it ended then', () => {
    for (const status of terminalStatuses) {
      expect(dependencyState({ status, result: 'success' })).toBe('met');
      for (const result of ['failure', 'undefined'] as const)
        expect(dependencyState({ status, result })).toBe('failed');
    }
  });

  it('holds them back until then', () => {
    for (const status of liveStatuses)
      for (const result of sessionResults) expect(dependencyState({ status, result })).toBe('unfinished');
  });
});

describe('the state of a session that follows its kernels', () => {
  const clusterOf = (statuses: readonly KernelStatus[]) =>
    statuses.map((status, at) => ({ status, role: at === 0 ? ('main' as const) : ('sub' as const) }));
  const statusOf = (kernels: KernelStatus[], present: SessionStatus, tolerant = false) =>
    sessionStatusOf(clusterOf(kernels), present, tolerant);

  it.each([
    [['CREATING', 'PREPARING'], 'PREPARING', 'PREPARING'],
    [['RUNNING', 'CREATING'], 'PREPARING', 'CREATING'],
    [['RUNNING', 'PREPARED'], 'PREPARING', 'PREPARED'],
    [['PREPARING', 'PULLING'], 'PREPARING', 'PULLING'],
    [['RUNNING', 'CREATING'], 'CREATING', 'CREATING'],
    [['RUNNING', 'RUNNING'], 'CREATING', 'RUNNING'],
    [['RUNNING', 'ERROR'], 'CREATING', 'TERMINATING'],
    [['TERMINATED', 'RUNNING'], 'RUNNING', 'TERMINATING'],
    [['ERROR'], 'PREPARING', 'ERROR'],
    [['TERMINATED'], 'RUNNING', 'TERMINATED'],
    [['TERMINATED', 'TERMINATING'], 'TERMINATING', 'TERMINATING'],
    [['TERMINATED', 'TERMINATED'], 'TERMINATING', 'TERMINATED'],
    [['TERMINATED', 'ERROR'], 'TERMINATING', 'ERROR'],
    [['TERMINATED', 'TERMINATED'], 'RESTARTING', 'RESTARTING'],
  ] as const)('%j in %s is %s', (kernels, present, expected) => {
    expect(statusOf([...kernels], present)).toBe(expected);
  });

  it('goes on without a sub kernel where that is wanted, and never without the main one', () => {
    expect(statusOf(['RUNNING', 'ERROR'], 'RUNNING', true)).toBe('RUNNING_DEGRADED');
    expect(statusOf(['RUNNING', 'ERROR'], 'RUNNING_DEGRADED', true)).toBe('RUNNING_DEGRADED');
    expect(statusOf(['ERROR', 'RUNNING'], 'RUNNING', true)).toBe('TERMINATING');
    expect(statusOf(['ERROR', 'ERROR', 'RUNNING'], 'RUNNING_DEGRADED', true)).toBe('TERMINATING');
    expect(statusOf(['RUNNING', 'ERROR'], 'CREATING', true)).toBe('TERMINATING');
  });

  it('is TERMINATED when its main kernel is, whatever became of sub kernels that it outlives', () => {
    for (const present of ['RUNNING_DEGRADED', 'TERMINATING'] as const) {
      expect(statusOf(['TERMINATED', 'ERROR'], present, true)).toBe('TERMINATED');
      expect(statusOf(['ERROR', 'TERMINATED'], present, true)).toBe('ERROR');
      expect(statusOf(['TERMINATED', 'ERROR'], present)).toBe('ERROR');
    }
  });

  const cluster = fc.array(fc.constantFrom(...kernelStatuses), { minLength: 1, maxLength: 4 });

  it('is one that may follow, in which its kernels may be so, and where it stays', () => {
    fc.assert(
      fc.property(cluster, fc.constantFrom(...sessionStatuses), fc.boolean(), (statuses, present, tolerant) => {
        const kernels = clusterOf(statuses);
        const next = sessionStatusOf(kernels, present, tolerant);
        expect(next === present || mayFollow(present, next)).toBe(true);
        const possible = statuses.every((status) => kernelStatusesOf[present].includes(status));
        if (next === present || !possible || next === 'TERMINATING') return;
        expect(statuses.filter((status) => !kernelStatusesOf[next].includes(status))).toEqual([]);
      }),
      { numRuns: 2_000 },
    );
  });

  it('has nothing after an end', () => {
    for (const { from } of promotions) expect(from.filter(isTerminal)).toEqual([]);
  });
});
