import type { IdleCheckView, KernelStatisticsView } from '@backend.ai/contract';
import { expect, it } from 'vitest';
import { idleChecks, lastStat } from './live-shapes.ts';

const check = (more: Partial<IdleCheckView>): IdleCheckView => ({
  checker: 'network_timeout',
  verdict: 'active',
  explanation: '',
  remainingMs: 90_500,
  remainingKind: 'expire_after',
  evidence: {},
  ...more,
});

it('idle checks tell seconds that are left, −1 when over, nothing of checkers that do not concern the session', () => {
  expect(
    idleChecks([
      check({}),
      check({ checker: 'session_lifetime', verdict: 'excluded', remainingMs: null }),
      check({ checker: 'utilization', verdict: 'expired', remainingMs: 0, evidence: { windowMs: 1 } }),
    ]),
  ).toEqual({
    network_timeout: { remaining: 90.5, remaining_time_type: 'expire_after', extra: {} },
    utilization: { remaining: -1, remaining_time_type: 'expire_after', extra: { windowMs: 1 } },
  });
  expect(idleChecks([check({ verdict: 'unknown', remainingMs: null })])).toMatchObject({
    network_timeout: { remaining: null },
  });
});

it('metrics are decimals as texts, and what is not measured is absent', () => {
  const view: KernelStatisticsView = {
    ...{ kernelId: 'k', role: 'main', index: 1, agent: 'a', measuredAt: '2030-01-01T00:00:00.000Z' },
    cpu: { usedMs: 1234.5678, percent: 50, averagePercent: 25.5, capacityPercent: 200 },
    memory: { bytes: 1024, peakBytes: 2048, averageBytes: null, capacityBytes: 3072 },
  };
  expect(lastStat(view)).toEqual({
    cpu_util: { current: '50', capacity: '200', pct: '25', unit_hint: 'percent', 'stats.avg': '25.5' },
    cpu_used: { current: '1234.568', capacity: null, pct: '0', unit_hint: 'msec' },
    mem: { current: '1024', capacity: '3072', pct: '33.33', unit_hint: 'bytes', 'stats.max': '2048' },
  });
  expect(lastStat({ ...view, memory: { ...view.memory, bytes: null } })).not.toHaveProperty('mem');
  expect(lastStat({ ...view, measuredAt: null })).toBeNull();
});
