import type { IdleChecker, IdleCheckView } from '@backend.ai/contract';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KernelUse } from '../statistics/kernel-statistics.ts';
import { addPoint, marginMs, type UsageSeries } from '../statistics/usage-series.ts';
import { defaultIdleSettings, type IdleSettings } from './idle-settings.ts';
import { judgeIdleness } from './judge.ts';
import type { JudgedSession } from './judged-session.ts';

const now = Date.UTC(2030, 0, 1);
const minute = 60_000;
const gib = 1024 ** 3;

/** Used steadily for `minutes` until now. */
function use(cores: number, memoryBytes: number | null, minutes = 30): KernelUse {
  let series: UsageSeries = [];
  for (let back = minutes * 4; back >= 0; back--) {
    const atMs = now - back * 15_000;
    series = addPoint(series, { atMs, cpuMs: (minutes * 4 - back) * 15_000 * cores, memoryBytes }, 3_600_000);
  }
  return { atMs: now, cpuMs: 0, cpuPercent: cores * 100, memoryBytes, memoryPeakBytes: memoryBytes, series };
}

const session: JudgedSession = {
  type: 'interactive',
  createdAtMs: now - 120 * minute,
  startedAtMs: now - 119 * minute,
  paused: false,
  resumedAtMs: undefined,
  userCreatedAtMs: now - 1000 * minute,
  lastAccessMs: now - 5 * minute,
  idleTimeoutMs: undefined,
  maxLifetimeMs: 0,
  kernels: [{ slots: { cpu: 2, mem: gib }, use: use(1, gib / 2) }],
};
const all: IdleSettings = {
  ...defaultIdleSettings,
  enabled: new Set<IdleChecker>(['network_timeout', 'utilization']),
  thresholds: { cpu_util: 30, mem: 30 },
};

function judge(
  checker: IdleChecker,
  more: Partial<JudgedSession>,
  settings: Partial<IdleSettings> = {},
): IdleCheckView {
  const found = judgeIdleness({ ...session, ...more }, { ...all, ...settings }, now);
  return found.find((check) => check.checker === checker) as IdleCheckView;
}

describe('the judge of unused sessions', () => {
  const judgeAccess = judge.bind(undefined, 'network_timeout');

  it('tells how long a session may still stay unused, and when that is over', () => {
    expect(judgeAccess({})).toMatchObject({ verdict: 'active', remainingMs: 5 * minute });
    expect(judgeAccess({ lastAccessMs: now - 10 * minute })).toMatchObject({ verdict: 'expired', remainingMs: 0 });
    expect(judgeAccess({ lastAccessMs: now - 12 * minute }).evidence).toMatchObject({ idleMs: 12 * minute });
  });

  it('gives a session that started anew the whole time again', () => {
    const restarted = { startedAtMs: now - 2 * minute, lastAccessMs: now - 60 * minute };
    expect(judgeAccess(restarted)).toMatchObject({
      verdict: 'active',
      remainingMs: 8 * minute,
      explanation: 'It started 120 s ago and was not used since; it may stay unused for 600 s.',
    });
    expect(judgeAccess({ ...restarted, startedAtMs: now - 10 * minute }).verdict).toBe('expired');
  });

  it('says nothing of a paused session, and gives it the whole time again when it goes on', () => {
    const unused = { lastAccessMs: now - 60 * minute };
    expect(judgeAccess({ ...unused, paused: true })).toMatchObject({
      verdict: 'excluded',
      explanation: 'It is paused.',
    });
    expect(judgeAccess({ ...unused, resumedAtMs: now - 2 * minute })).toMatchObject({
      verdict: 'active',
      remainingMs: 8 * minute,
      explanation: 'It was resumed 120 s ago and was not used since; it may stay unused for 600 s.',
    });
    expect(judgeAccess({ ...unused, resumedAtMs: now - 10 * minute }).verdict).toBe('expired');
  });

  it('lets the policy of the key pair override the settings, with 0 as never', () => {
    expect(judgeAccess({ idleTimeoutMs: 2 * minute })).toMatchObject({
      verdict: 'expired',
      evidence: { setBy: 'keypair-policy' },
    });
    expect(judgeAccess({ idleTimeoutMs: 0, lastAccessMs: 0 })).toMatchObject({
      verdict: 'excluded',
      remainingMs: null,
    });
    expect(judgeAccess({ lastAccessMs: 0 }, { networkTimeoutMs: 0 }).verdict).toBe('excluded');
  });

  it('judges neither batch and inference sessions, nor those of new users, nor what was never seen', () => {
    expect(judgeAccess({ type: 'batch', lastAccessMs: 0 }).verdict).toBe('excluded');
    expect(judgeAccess({ type: 'inference', lastAccessMs: 0 }).verdict).toBe('excluded');
    expect(judgeAccess({ userCreatedAtMs: now - minute, lastAccessMs: 0 }, { userGraceMs: 2 * minute }).verdict).toBe(
      'excluded',
    );
    expect(judgeAccess({ lastAccessMs: undefined })).toMatchObject({ verdict: 'unknown', remainingMs: null });
  });

  it('is off unless it is switched on', () => {
    expect(judgeAccess({ lastAccessMs: 0 }, defaultIdleSettings).verdict).toBe('excluded');
  });
});

describe('the judge of lifetimes', () => {
  it('is always on, and judges by the policy alone', () => {
    const lifetime = (maxLifetimeMs: number) => judge('session_lifetime', { maxLifetimeMs }, defaultIdleSettings);
    expect(lifetime(0).verdict).toBe('excluded');
    expect(lifetime(180 * minute)).toMatchObject({ verdict: 'active', remainingMs: 60 * minute });
    expect(lifetime(60 * minute).verdict).toBe('expired');
    expect(judge('session_lifetime', { maxLifetimeMs: 1, type: 'inference' }).verdict).toBe('excluded');
  });
});

describe('the judge of utilisation', () => {
  const judgeUse = judge.bind(undefined, 'utilization');
  const kernels = (cores: number, memoryBytes: number | null, minutes?: number) => ({
    kernels: [{ slots: { cpu: 2, mem: gib }, use: use(cores, memoryBytes, minutes) }],
  });

  it('compares averages with what the session was given', () => {
    expect(judgeUse({})).toMatchObject({
      verdict: 'active',
      evidence: { metrics: { cpu_util: { average: 50, isBelow: false }, mem: { average: 50, isBelow: false } } },
    });
    expect(judgeUse(kernels(0.1, gib / 10))).toMatchObject({ verdict: 'expired', remainingMs: 0 });
  });

  it('with "and" needs all metrics below, with "or" one', () => {
    const onlyCpuIsLow = kernels(0.1, gib / 2);
    expect(judgeUse(onlyCpuIsLow, { operator: 'and' }).verdict).toBe('active');
    expect(judgeUse(onlyCpuIsLow, { operator: 'or' }).verdict).toBe('expired');
  });

  it('waits out the grace after the start, then a whole window of measurements', () => {
    const young = { ...kernels(0, 0), startedAtMs: now - 2 * minute };
    expect(judgeUse(young)).toMatchObject({
      verdict: 'active',
      remainingKind: 'grace_period',
      remainingMs: 3 * minute,
    });
    const seenForFive = kernels(0, 0, 5);
    expect(judgeUse(seenForFive)).toMatchObject({ verdict: 'active', remainingMs: 5 * minute });
  });

  it('ends nothing before the whole of a short window was observed, and then does, whatever the distances of measurements', () => {
    for (const everyMs of [1_000, 5_000, 7_000, 14_000, 16_000, 29_000]) {
      let series: UsageSeries = [];
      const expired: number[] = [];
      for (let ranMs = 0; ranMs < 10 * minute; ranMs += everyMs) {
        series = addPoint(series, { atMs: now + ranMs, cpuMs: 0, memoryBytes: 0 }, minute + marginMs);
        const kernel = { slots: { cpu: 2, mem: gib }, use: { ...use(0, 0), atMs: now + ranMs, series } };
        const settings = { ...all, windowMs: minute, initialGraceMs: 0 };
        const checks = judgeIdleness({ ...session, kernels: [kernel] }, settings, now + ranMs);
        if (checks.at(-1)?.verdict === 'expired') expired.push(ranMs);
      }
      const whole = Math.ceil(minute / everyMs) * everyMs;
      const measured = Math.floor((10 * minute - 1) / everyMs) + 1 - whole / everyMs;
      expect(expired).toEqual(Array.from({ length: measured }, (_, nth) => whole + nth * everyMs));
    }
  });

  it('judges a session that went on by the time in which it ran, however often it was paused', () => {
    const idle = { kernels: [{ slots: { cpu: 2, mem: gib }, use: use(0, 0, 60) }] };
    expect(judge('utilization', idle).verdict).toBe('expired');
    expect(judge('utilization', { ...idle, paused: true }).verdict).toBe('excluded');
    expect(judge('utilization', { ...idle, resumedAtMs: now - 1_000 }).verdict).toBe('expired');
  });

  it('leaves out resources that the session was not given', () => {
    const thresholds = { cpu_util: 30, cuda_util: 30 };
    expect(judgeUse(kernels(1.5, 0), { thresholds, operator: 'or' }).verdict).toBe('active');
    expect(judgeUse({}, { thresholds: { cuda_util: 30 } }).verdict).toBe('excluded');
  });

  it('never takes what is not measured for nothing', () => {
    const noMemory = kernels(0, null);
    expect(judgeUse(noMemory, { operator: 'and' })).toMatchObject({ verdict: 'unknown', remainingMs: null });
    expect(judgeUse(noMemory, { operator: 'or' }).verdict).toBe('expired');
    const gpu = { kernels: [{ slots: { cpu: 2, 'cuda.device': 1 }, use: use(0, 0) }] };
    expect(judgeUse(gpu, { thresholds: { cuda_util: 10 } }).verdict).toBe('unknown');
    const oneSilent = { kernels: [...kernels(0, 0).kernels, { slots: { cpu: 1, mem: gib }, use: undefined }] };
    expect(judgeUse(oneSilent).verdict).toBe('unknown');
    const stale = { ...use(0, 0), atMs: now - 2 * minute };
    expect(judgeUse({ kernels: [{ slots: { cpu: 1, mem: gib }, use: stale }] }).verdict).toBe('unknown');
  });

  it('judges accelerators by what the session was given of them, and disks and networks by bytes per second', () => {
    const others = (back: number) => ({ cuda_util: 20, cuda_mem: 60, io_read: (120 - back) * 15_000, net_rx: 100 });
    let series: UsageSeries = [];
    for (let back = 120; back >= 0; back--) {
      const point = { atMs: now - back * 15_000, cpuMs: 0, memoryBytes: 0, others: others(back) };
      series = addPoint(series, point, 3_600_000);
    }
    const slots = { cpu: 1, mem: gib, 'cuda.shares': 2 };
    const gpu = { kernels: [{ slots, use: { ...use(0, 0), series } }] };
    const average = (metric: string) => {
      const { evidence } = judgeUse(gpu, { thresholds: { [metric]: 50 } });
      return (evidence.metrics as Record<string, { average: number }>)[metric]?.average;
    };
    expect(average('cuda_util')).toBeCloseTo(20);
    expect(average('cuda_mem')).toBeCloseTo(60);
    expect(average('io_read')).toBeCloseTo(1_000);
    expect(average('net_rx')).toBeCloseTo(100);
    expect(judgeUse(gpu, { thresholds: { cuda_util: 50 } }).verdict).toBe('expired');
    expect(judgeUse(gpu, { thresholds: { io_read: 500 } }).verdict).toBe('active');
    expect(judgeUse(gpu, { thresholds: { net_tx: 500 } }).verdict).toBe('unknown');
  });

  it('looks at all kernels of a session together', () => {
    const busy = { slots: { cpu: 2, mem: gib }, use: use(2, gib) };
    const lazy = { slots: { cpu: 2, mem: gib }, use: use(0, 0) };
    expect(judgeUse({ kernels: [busy, lazy] })).toMatchObject({
      verdict: 'active',
      evidence: { metrics: { cpu_util: { average: 50 } } },
    });
  });
});

it('never ends a session that is used more, sooner', () => {
  const cores = fc.double({ min: 0, max: 2, noNaN: true });
  fc.assert(
    fc.property(cores, cores, fc.constantFrom('and' as const, 'or' as const), (one, other, operator) => {
      const [less, more] = [Math.min(one, other), Math.max(one, other)];
      const verdict = (used: number) =>
        judge(
          'utilization',
          { kernels: [{ slots: { cpu: 2, mem: gib }, use: use(used, gib / 20, 11) }] },
          { operator },
        );
      if (verdict(less).verdict !== 'expired') expect(verdict(more).verdict).not.toBe('expired');
    }),
    { numRuns: 50 },
  );
});
