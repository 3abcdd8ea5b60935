import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  explainReason,
  isTerminal,
  liveStatuses,
  mayFollow,
  type SessionStatus,
  sessionStatuses,
  sourcesOf,
  statusReasons,
  statusTransitions,
  terminalStatuses,
  transientDeadlines,
} from './status.ts';

const transient = liveStatuses.filter((status) => status !== 'PENDING' && status !== 'RUNNING');

function reachableFrom(start: SessionStatus): Set<SessionStatus> {
  const seen = new Set<SessionStatus>([start]);
  for (const status of seen) for (const next of statusTransitions[status]) seen.add(next);
  return seen;
}

describe('the transition table', () => {
  it.each(transient)('gives %s a deadline and a step that may follow', (status) => {
    const deadline = transientDeadlines[status];
    expect(deadline?.afterMs).toBeGreaterThan(0);
    expect(mayFollow(status, deadline!.next)).toBe(true);
    expect(statusReasons).toHaveProperty([deadline!.reason]);
  });

  it('gives no deadline to states that may last', () => {
    expect(Object.keys(transientDeadlines).sort()).toEqual([...transient].sort());
  });

  it.each(terminalStatuses)('lets nothing follow %s', (status) => {
    expect(statusTransitions[status]).toEqual([]);
    expect(isTerminal(status)).toBe(true);
  });

  it.each(liveStatuses)('lets %s reach an end', (status) => {
    expect([...reachableFrom(status)].some(isTerminal)).toBe(true);
  });

  it('reaches every state from PENDING', () => {
    expect([...reachableFrom('PENDING')].sort()).toEqual([...sessionStatuses].sort());
  });

  it('reaches RUNNING only through CREATING', () => {
    expect(sourcesOf('RUNNING')).toEqual(['CREATING']);
  });

  it('never leads back from RUNNING or TERMINATING to where a kernel would be started again', () => {
    for (const status of ['RUNNING', 'TERMINATING'] as const) {
      expect([...reachableFrom(status)].filter((next) => !isTerminal(next) && next !== status)).toEqual(
        status === 'RUNNING' ? ['TERMINATING'] : [],
      );
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
