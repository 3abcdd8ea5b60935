import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Plan } from './plan.ts';
import { schedule } from './schedule.ts';
import { parseSnapshot, serialiseSnapshot } from './snapshot-json.ts';
import { SchedulingState } from './state.ts';
import { everyOption, shuffled, snapshots } from './testing/arbitraries.ts';

const told = ({ reasons, ...plan }: Plan): unknown => ({ ...plan, reasons: [...reasons] });

describe('the state between passes', () => {
  it('plans as a fresh snapshot does after any changes', () => {
    const events = fc.array(fc.record({ kind: fc.nat(6), which: fc.nat(20) }), { maxLength: 12 });
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), snapshots(), events, (snapshot, other, changes) => {
        const state = new SchedulingState(snapshot);
        let now = snapshot.now;
        for (const { kind, which } of changes) {
          now += 1;
          const at = <T>(list: readonly T[]): T | undefined => list[which % Math.max(1, list.length)];
          const present = state.snapshot(now);
          const agent = at(present.agents);
          const placement = at(state.plan(now).placements);
          const fresh = at(other.pending);
          if (kind === 0 && placement) state.placed(placement, now);
          if (kind === 1 && present.running.length > 0) state.ended(at(present.running)!.sessionId);
          if (kind === 2 && fresh) state.queue({ ...fresh, sessionId: `new-${which}` });
          if (kind === 3 && present.pending.length > 0) state.unqueue(at(present.pending)!.sessionId);
          if (kind === 4 && agent) state.setAgent({ ...agent, schedulable: !agent.schedulable });
          if (kind === 5 && agent) state.setAgent({ ...agent, kernelCount: which });
          if (kind === 6) state.advanceRoundRobin(state.plan(now).roundRobin);
          expect(told(state.plan(now))).toEqual(told(schedule(state.snapshot(now))));
        }
      }),
    );
  });

  it('is left as it was by planning and explaining', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const state = new SchedulingState(snapshot);
        const first = told(state.plan(snapshot.now));
        for (const { sessionId } of snapshot.pending) {
          state.explain(sessionId, snapshot.now);
          state.previewPreemption(sessionId, snapshot.now);
        }
        // Another moment, so that the plan is made anew; then the first again.
        state.plan(snapshot.now + 1);
        expect(told(state.plan(snapshot.now))).toEqual(first);
      }),
    );
  });
});

describe('the text of a snapshot', () => {
  it('is read back as what was written, and is the same for the same facts in any order', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const text = serialiseSnapshot(snapshot);
        expect(serialiseSnapshot(shuffled(snapshot))).toBe(text);
        expect(serialiseSnapshot(parseSnapshot(text))).toBe(text);
        expect(told(schedule(parseSnapshot(text)))).toEqual(told(schedule(snapshot)));
      }),
    );
  });

  it.each([
    ['not JSON', 'x', 'The snapshot is not JSON.'],
    ['another version', '{"version":2}', 'The snapshot is wrong at version'],
    [
      'an amount that is not one',
      '{"version":1,"now":0,"groups":[],"pending":[],"running":[],"fairShares":[],"agents":[],"quotas":[{"scope":"user","id":"u","limits":{"cpu":"many"}}]}',
      'The snapshot is wrong at quotas.0.limits.cpu',
    ],
  ])('is refused when it is %s, naming the place', (_, text, message) => {
    expect(() => parseSnapshot(text)).toThrow(
      expect.objectContaining({ code: 'invalid-input', message: expect.stringContaining(message) }),
    );
  });
});
