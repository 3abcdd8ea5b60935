import { fits, statusReasons } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Plan } from './plan.ts';
import { applyPlan, schedule } from './schedule.ts';
import type { PendingSession } from './snapshot.ts';
import { everyOption, shuffled, snapshots } from './testing/arbitraries.ts';
import { naiveSchedule } from './testing/naive-schedule.ts';

const shortages: readonly string[] = ['insufficient-resources', 'kernel-limit-reached'];

/** A plan as text, its reasons too. */
const told = ({ reasons, ...plan }: Plan): string => JSON.stringify({ ...plan, reasons: [...reasons] });

describe('a plan', () => {
  it('is that of the rules written down naively: order, quotas, filters, ranks, keys, head of line', () => {
    fc.assert(
      fc.property(fc.oneof(snapshots(), snapshots({ crowded: true })), (snapshot) => {
        const plan = schedule(snapshot);
        const naive = naiveSchedule(snapshot);
        const placed = plan.placements.map((p) => [p.sessionId, ...p.kernels.map((kernel) => kernel.agentId)]);
        expect(placed).toEqual(naive.placed);
        const codes = [...plan.reasons].map(([id, { code }]) => [id, code]);
        expect(Object.fromEntries(codes)).toEqual(Object.fromEntries(naive.codes));
      }),
      { numRuns: 300 },
    );
  });

  it('is the same byte for byte whatever the order of the lists', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        expect(told(schedule(shuffled(snapshot)))).toBe(told(schedule(snapshot)));
      }),
    );
  });

  it('never gives an agent more than it has, victims having left', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const limits = new Map(snapshot.groups.map((group) => [group.name, group.maxKernelsPerAgent]));
        const before = new Map(snapshot.agents.map((agent) => [agent.id, agent.kernelCount ?? 0]));
        for (const agent of applyPlan(snapshot, schedule(snapshot)).agents) {
          expect(fits(agent.used, agent.capacity)).toBe(true);
          const limit = limits.get(agent.resourceGroup) ?? Number.POSITIVE_INFINITY;
          expect(agent.kernelCount).toBeLessThanOrEqual(Math.max(limit, before.get(agent.id)!));
        }
      }),
    );
  });

  it('places, reserves for, or gives a known reason to each waiting session, once', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const plan = schedule(snapshot);
        const named = [...plan.placements, ...plan.reservations].map((p) => p.sessionId);
        expect([...named, ...plan.reasons.keys()].sort()).toEqual(snapshot.pending.map((s) => s.sessionId).sort());
        for (const { code } of plan.reasons.values()) expect(statusReasons).toHaveProperty(code);
        const told: unknown[] = [];
        plan.reasons.forEach((reason, sessionId) => void told.push([sessionId, reason]));
        expect([told, plan.reasons.size]).toEqual([[...plan.reasons], told.length]);
        expect(plan.reasons.has('nobody')).toBe(false);
      }),
    );
  });

  it('places all kernels of a session or none, a single-node session on one agent', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        for (const { sessionId, kernels } of schedule(snapshot).placements) {
          const session = snapshot.pending.find((other) => other.sessionId === sessionId)!;
          expect(kernels.map((kernel) => kernel.kernelId)).toEqual(session.kernels.map((kernel) => kernel.kernelId));
          if (session.clusterMode !== 'multi-node')
            expect(new Set(kernels.map((kernel) => kernel.agentId)).size).toBe(1);
        }
      }),
    );
  });

  it('places, or makes room for, kernels of one session only where they reach each other', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const networks = new Map(snapshot.agents.map(({ id, clusterNetwork }) => [id, clusterNetwork]));
        const plan = schedule(snapshot);
        for (const { kernels } of [...plan.placements, ...plan.reservations]) {
          expect(new Set(kernels.map(({ agentId }) => networks.get(agentId))).size).toBe(1);
        }
      }),
    );
  });

  it('changes nothing more when it is carried out twice', () => {
    fc.assert(
      fc.property(snapshots(), (snapshot) => {
        const plan = schedule(snapshot);
        const once = applyPlan(snapshot, plan);
        expect(applyPlan(once, plan)).toEqual(once);
      }),
    );
  });

  it('lowers the priority of a head after as many failed attempts as its group says, never below zero or its equals', () => {
    fc.assert(
      fc.property(snapshots({ groups: everyOption }), (snapshot) => {
        const plan = schedule(snapshot);
        const heads = snapshot.pending.filter((s) => plan.attempted.includes(s.sessionId));
        for (const head of heads) {
          expect(shortages).toContain(plan.reasons.get(head.sessionId)?.code);
          const lowered = plan.deprioritised.find((entry) => entry.sessionId === head.sessionId);
          const group = snapshot.groups.find(({ name }) => name === head.resourceGroup);
          const most = group?.attemptsBeforeGivingUp ?? 5;
          const asked = head.requestedPriority ?? head.priority;
          const equals = snapshot.pending.filter(
            (other) =>
              other !== head &&
              other.resourceGroup === head.resourceGroup &&
              other.priority === asked &&
              other.requestedPriority === undefined,
          );
          const arrives = ({ createdAt, sessionId }: PendingSession): string => `${createdAt} ${sessionId}`;
          const scheduler = group?.scheduler ?? 'fifo';
          // The order of equals under fair-share is that of their usage, which is another test's business.
          if (scheduler === 'fair-share' && equals.length > 0) continue;
          const isBehind = (other: PendingSession): boolean =>
            scheduler === 'lifo' ? arrives(other) < arrives(head) : arrives(other) > arrives(head);
          const due = most > 0 && (head.attempts ?? 0) + 1 >= most && head.priority > 0 && !equals.some(isBehind);
          expect(lowered).toEqual(
            due ? { sessionId: head.sessionId, priority: Math.max(0, head.priority - 10) } : undefined,
          );
        }
        expect(new Set(heads.map((head) => head.resourceGroup)).size).toBe(heads.length);
      }),
    );
  });
});
