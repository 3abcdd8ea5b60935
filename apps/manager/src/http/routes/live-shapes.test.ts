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

it('metrics are decimals as texts, with what was ever measured, and what is not measured is absent', () => {
  const metric = { min: 0, max: 2048, sum: 4000.12345, avg: 1000.5, diff: 12, rate: 2.4 };
  const view = {
    measuredAt: '2030-01-01T00:00:00.000Z',
    metrics: {
      mem: { unit: 'bytes', current: 1024, capacity: 3072, ...metric },
      cpu_used: { unit: 'msec', current: 1234.5678, capacity: null, ...metric },
    },
  } as unknown as KernelStatisticsView;
  const stats = {
    ...{ 'stats.min': '0', 'stats.max': '2048', 'stats.sum': '4000.123', 'stats.avg': '1000.5' },
    ...{ 'stats.diff': '12', 'stats.rate': '2.4', version: 2 },
  };
  expect(lastStat(view)).toEqual({
    mem: { current: '1024', capacity: '3072', pct: '33.33', unit_hint: 'bytes', ...stats },
    cpu_used: { current: '1234.568', capacity: null, pct: '0', unit_hint: 'msec', ...stats },
  });
  expect(lastStat({ ...view, measuredAt: null })).toBeNull();
});
