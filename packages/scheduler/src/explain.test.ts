import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyRemedy } from './apply-remedy.ts';
import { schedule } from './schedule.ts';
import { SchedulingState } from './state.ts';
import { everyOption, snapshots } from './testing/arbitraries.ts';

describe('an explanation', () => {
  it('has for every waiting session the code of the plan as its first reason, and a place in its queue', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const state = new SchedulingState(snapshot);
        const plan = state.plan(snapshot.now);
        const positions = new Map<string, number[]>();
        for (const { sessionId, resourceGroup } of snapshot.pending) {
          const explained = state.explain(sessionId, snapshot.now)!;
          const planned = plan.reasons.get(sessionId);
          if (planned) expect(explained.reasons[0]?.code).toBe(planned.code);
          else expect(explained.reasons).toEqual([]);
          positions.set(resourceGroup, [...(positions.get(resourceGroup) ?? []), explained.position]);
        }
        for (const taken of positions.values()) {
          expect(taken.sort((a, b) => a - b)).toEqual(taken.map((_, index) => index + 1));
        }
      }),
    );
  });

  it('names changes with each of which the session starts with the next pass', () => {
    let remedies = 0;
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const state = new SchedulingState(snapshot);
        for (const { sessionId, kernels, clusterMode } of snapshot.pending) {
          const { reasons, remedies: found } = state.explain(sessionId, snapshot.now)!;
          const architectures = new Set(kernels.map((kernel) => kernel.architecture)).size;
          const impossible = clusterMode !== 'multi-node' && architectures > 1;
          expect(found.length > 0).toBe(reasons.length > 0 && !impossible);
          for (const remedy of found) {
            const plan = schedule(applyRemedy(snapshot, sessionId, remedy));
            const started = [...plan.placements, ...plan.reservations].map((placed) => placed.sessionId);
            expect(started, JSON.stringify({ sessionId, remedy, reasons })).toContain(sessionId);
            remedies += 1;
          }
        }
      }),
      { numRuns: 120 },
    );
    expect(remedies).toBeGreaterThan(100);
  });
});
