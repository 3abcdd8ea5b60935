import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Plan } from './plan.ts';
import { schedule } from './schedule.ts';
import { imageKey } from './snapshot.ts';
import { parseSnapshot, serialiseSnapshot } from './snapshot-json.ts';
import { SchedulingState } from './state.ts';
import { everyOption, shuffled, snapshots } from './testing/arbitraries.ts';

const told = ({ reasons, ...plan }: Plan): unknown => ({ ...plan, reasons: [...reasons] });

describe('the state between passes', () => {
  it('plans as a fresh snapshot does after any changes', () => {
    const events = fc.array(fc.record({ kind: fc.nat(8), which: fc.nat(20) }), { maxLength: 12 });
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), snapshots(), events, (snapshot, other, changes) => {
        const state = new SchedulingState(snapshot);
        const known = new Map<string, string>();
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
          const reservation = at(state.plan(now).reservations);
          if (kind === 7 && reservation) state.reserved(reservation);
          if (kind === 8) {
            const awaiting = present.running.filter(({ awaitsVictims }) => awaitsVictims);
            if (awaiting.length > 0) state.admitted(at(awaiting)!.sessionId);
          }
          if (kind === 6) state.advanceRoundRobin(state.plan(now).roundRobin);
          expect(told(state.plan(now))).toEqual(told(schedule(state.snapshot(now))));
          // News are the reasons of the plan that nobody was told yet; every second time they are.
          const { reasons, wakeAt } = state.news(now);
          const all = [...state.plan(now).reasons].map(([sessionId, reason]) => ({ sessionId, ...reason }));
          for (const id of known.keys()) if (!state.waiting(id)) known.delete(id);
          expect(reasons).toEqual(all.filter(({ sessionId, code }) => known.get(sessionId) !== code));
          const ends = all.map(({ code, data }) =>
            code === 'agent-refused'
              ? Date.parse(data.nextTryAt)
              : code === 'starts-later'
                ? Date.parse(data.startsAt)
                : Number.POSITIVE_INFINITY,
          );
          expect(wakeAt).toBe(Math.min(...ends));
          if (which % 2 === 0) continue;
          for (const { sessionId, code } of reasons) {
            state.tell(sessionId, code);
            known.set(sessionId, code);
          }
          expect(state.news(now).reasons).toEqual([]);
        }
      }),
    );
  });

  it.each([true, false])('gives an announced place to its session or back (started: %s)', (admitted) => {
    const owner = { keypair: 'k', user: 'u', project: 'p', domain: 'd' };
    const kernel = { kernelId: 'k1', role: 'main', index: 1, slots: { cpu: 4n }, image: 'i', architecture: 'x' };
    const agent = { id: 'a', status: 'ALIVE', schedulable: true, resourceGroup: 'g', architecture: 'x' } as const;
    const state = new SchedulingState({
      groups: [{ name: 'g', preemption: { enabled: true } }],
      agents: [{ ...agent, images: [imageKey('i', 'x')], capacity: { cpu: 4n }, used: { cpu: 4n }, kernelCount: 1 }],
      pending: [
        {
          ...{ sessionId: 'new', resourceGroup: 'g', owner, kernels: [kernel] },
          createdAt: 0,
          priority: 10,
          jobPriority: 1,
        },
      ],
      running: [
        {
          sessionId: 'old',
          resourceGroup: 'g',
          owner,
          kernels: [{ kernelId: 'k0', agentId: 'a', slots: { cpu: 4n } }],
        },
      ],
      quotas: [],
      fairShares: [],
    });
    const held = () => state.snapshot(0).agents.map(({ used, reserved = {} }) => [used.cpu, reserved.cpu ?? 0n])[0];
    const [reservation] = state.plan(0).reservations;
    expect(reservation?.victims).toEqual([{ sessionId: 'old', jobPriority: 0 }]);
    state.reserved(reservation!);
    expect([state.waiting('new'), state.running('old')?.ending, held()]).toEqual([undefined, true, [4n, 4n]]);
    expect(state.plan(1).reservations).toEqual([]);
    state.ended('old');
    expect(held()).toEqual([0n, 4n]);
    if (admitted) state.admitted('new');
    else state.ended('new');
    expect(held()).toEqual([admitted ? 4n : 0n, 0n]);
    expect(state.running('new')?.awaitsVictims).toBeUndefined();
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
    [
      'an order of queues that does not exist',
      '{"version":1,"now":0,"groups":[{"name":"g","scheduler":"zz"}],"pending":[],"running":[],"fairShares":[],"agents":[],"quotas":[]}',
      'The snapshot is wrong at groups.0.scheduler',
    ],
  ])('is refused when it is %s, naming the place', (_, text, message) => {
    expect(() => parseSnapshot(text)).toThrow(
      expect.objectContaining({ code: 'invalid-input', message: expect.stringContaining(message) }),
    );
  });

  it('is refused when it has something twice: a session would start and wait at once', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), fc.nat(), (snapshot, nth) => {
        const { now: _, ...lists } = JSON.parse(serialiseSnapshot(snapshot)) as Record<string, unknown[]>;
        const [name, list] = Object.entries(lists).filter(([, items]) => Array.isArray(items))[nth % 6]!;
        if (list.length === 0) return;
        const text = JSON.stringify({ ...lists, now: snapshot.now, [name]: [...list, list[0]] });
        expect(() => parseSnapshot(text)).toThrow(/^The snapshot has .+ twice\.$/);
      }),
    );
    const waiting = {
      sessionId: 's',
      resourceGroup: 'g',
      owner: { keypair: 'k', user: 'u', project: 'p', domain: 'd' },
    };
    const document = {
      ...{ version: 1, now: 0, groups: [], agents: [], quotas: [], fairShares: [] },
      pending: [
        {
          ...{ ...waiting, createdAt: 0, priority: 10 },
          kernels: [{ kernelId: 'k1', role: 'main', index: 1, slots: {}, image: 'i', architecture: 'x' }],
        },
      ],
      running: [{ ...waiting, kernels: [] }],
    };
    expect(() => parseSnapshot(JSON.stringify(document))).toThrow('The snapshot has the session s twice.');
  });

  it('finds once for all that ask the same that no agent is large enough', () => {
    const owner = { keypair: 'k', user: 'u', project: 'p', domain: 'd' };
    const waiting = (sessionId: string) => ({
      ...{ sessionId, resourceGroup: 'g', owner, createdAt: 0, priority: 10 },
      kernels: [{ kernelId: sessionId, role: 'main', index: 1, slots: { cpu: 5n }, image: 'i', architecture: 'x' }],
    });
    const agent = { id: 'a', status: 'ALIVE', schedulable: true, resourceGroup: 'g', architecture: 'x' } as const;
    const state = new SchedulingState({
      groups: [{ name: 'g' }],
      agents: [{ ...agent, images: [imageKey('i', 'x')], capacity: { cpu: 4n }, used: {} }],
      pending: [waiting('one'), waiting('two')] as never,
      ...{ running: [], quotas: [], fairShares: [] },
    });
    const { reasons } = state.plan(0);
    expect(reasons.get('one')?.code).toBe('exceeds-agents');
    expect(reasons.get('two')).toBe(reasons.get('one'));
  });
});
