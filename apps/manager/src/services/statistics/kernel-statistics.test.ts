import type { KernelMeasurement, Metrics } from '@backend.ai/contract';
import { InProcessLiveValues, type LiveValues } from '@backend.ai/coordination';
import { newId } from '@backend.ai/core';
import { BackgroundTasks } from '@backend.ai/telemetry';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { KernelStatistics } from './kernel-statistics.ts';
import { averageOf } from './usage-series.ts';

const kernelId = '0b5a0c2e-6f51-4f0c-9d2b-1f5a1f2f3a4b';
const measurement = (cpuMs: number, memoryBytes: number, more: Partial<KernelMeasurement> = {}): KernelMeasurement => ({
  kernelId,
  ageMs: 0,
  cpuMs,
  cpuPercent: 10,
  memoryBytes,
  memoryPeakBytes: memoryBytes,
  ...more,
});

function world() {
  const clock = new FakeClock();
  const logs = collectLogs('manager');
  const tasks = new BackgroundTasks(logs.logger);
  const real = new InProcessLiveValues(clock);
  let away = false;
  const liveValues: LiveValues = new Proxy(real, {
    get: (target, name) =>
      away ? () => Promise.reject(new Error('Redis is away')) : Reflect.get(target, name, target).bind(target),
  });
  const manager = () => new KernelStatistics({ liveValues, keepMs: () => 600_000, clock, tasks, logger: logs.logger });
  const statistics = manager();
  const tell = async (
    by: KernelStatistics,
    measurements: KernelMeasurement[],
    kernels = [kernelId],
    paused: string[] = [],
  ) => {
    by.record('a', measurements, new Set(kernels), new Set(paused));
    await tasks.drain();
  };
  return {
    clock,
    logs,
    liveValues: real,
    manager,
    statistics,
    tell,
    drain: () => tasks.drain(),
    goAway: (is: boolean) => (away = is),
  };
}

describe('statistics of kernels', () => {
  it('are known to every manager, and go on where another one takes the agent over', async () => {
    const { clock, manager, statistics, tell } = world();
    await tell(statistics, [measurement(0, 900)]);
    await clock.advance(20_000);
    const other = manager();
    await tell(other, [measurement(10_000, 100, { memoryPeakBytes: 100 })]);
    const known = await statistics.find(kernelId);
    expect(known).toMatchObject({ cpuMs: 10_000, memoryBytes: 100, memoryPeakBytes: 900 });
    expect(known?.series.map(({ cpuMs }) => cpuMs)).toEqual([0, 10_000]);
  });

  it('count how long devices were busy while somebody measured, also where agents and managers start anew', async () => {
    const { clock, manager, statistics, tell } = world();
    const busy = (percent: number) => ({
      ...{ unit: 'percent', current: percent, capacity: 200, min: percent, max: percent },
      ...{ sum: percent, avg: percent, diff: 0, rate: 0 },
    });
    const beat = async (afterMs: number, percent: number | null, by: KernelStatistics) => {
      await clock.advance(afterMs);
      const metrics: Metrics = { cpu_util: busy(90) };
      if (percent !== null) metrics.cuda_util = busy(percent);
      await tell(by, [measurement(0, 1, { metrics })]);
      return (await by.find(kernelId))?.busySeconds;
    };
    expect(await beat(0, 200, statistics)).toEqual({ cuda: 0 });
    expect(await beat(10_000, 200, statistics)).toEqual({ cuda: 20 });
    expect(await beat(10_000, 0, statistics)).toEqual({ cuda: 20 });
    expect(await beat(10_000, null, statistics)).toEqual({ cuda: 20 });
    // The agent was away, and this manager is another one.
    const other = manager();
    expect(await beat(100_000, 50, other)).toEqual({ cuda: 50 });
    expect(other.end('a', kernelId)?.busySeconds).toEqual({ cuda: 50 });
  });

  it('are averages of the time in which programs ran, also under another manager: pausing excuses from nothing', async () => {
    const { clock, manager, statistics, tell } = world();
    let ranMs = 0;
    const beat = async (by: KernelStatistics, ms: number, was: 'ran' | 'paused', is: 'runs' | 'pauses') => {
      await clock.advance(ms);
      if (was === 'ran') ranMs += ms;
      await tell(by, [measurement(ranMs / 2, 1)], [kernelId], is === 'pauses' ? [kernelId] : []);
    };
    await beat(manager(), 0, 'ran', 'runs');
    for (let window = 0; window < 3; window++) {
      const by = manager();
      for (let nth = 0; nth < 4; nth++) await beat(by, 30_000, 'ran', nth === 3 ? 'pauses' : 'runs');
      for (let nth = 0; nth < 19; nth++) await beat(by, 60_000, 'paused', nth === 18 ? 'runs' : 'pauses');
    }
    const known = await statistics.find(kernelId);
    expect(averageOf(known?.series ?? [], 300_000)).toMatchObject({ cpuPercent: 50, coveredMs: 300_000 });
    expect(known?.series.map(({ atMs }) => atMs)).toEqual([...(known?.series ?? [])].map(({ atMs }) => atMs).sort());
    expect(known?.series.length).toBeLessThan(20);
  });

  it('that cannot be read count as none, and are in the way of no other kernel', async () => {
    const { clock, logs, liveValues, manager, tell } = world();
    const other = newId();
    await liveValues.set(`kernel:${kernelId}:statistics`, '{"atMs":', 60_000);
    const later = manager();
    const both = [measurement(5, 1), measurement(7, 1, { kernelId: other })];
    expect(await later.find(kernelId)).toBeUndefined();
    expect(logs.records).toMatchObject([{ msg: 'statistics of a kernel cannot be read', kernel_id: kernelId }]);
    await tell(later, both, [kernelId, other]);
    await clock.advance(1_000);
    expect(await later.find(kernelId)).toMatchObject({ cpuMs: 5 });
    expect(await later.find(other)).toMatchObject({ cpuMs: 7 });
  });

  it('take a measurement that is told again for one', async () => {
    const { clock, statistics, tell } = world();
    await tell(statistics, [measurement(0, 1)]);
    await clock.advance(3_000);
    await tell(statistics, [measurement(0, 1, { ageMs: 3_001 })]);
    expect((await statistics.find(kernelId))?.series).toHaveLength(1);
  });

  it('are gone when the kernel has ended, and its agent cannot bring them back', async () => {
    const { statistics, tell, drain } = world();
    await tell(statistics, [measurement(5, 1)]);
    expect(statistics.end('a', kernelId)).toMatchObject({ cpuMs: 5 });
    await drain();
    expect(await statistics.find(kernelId)).toBeUndefined();
    await tell(statistics, [measurement(6, 1)], []);
    expect(await statistics.find(kernelId)).toBeUndefined();
  });

  it('are gone when the kernel ends while they are being kept', async () => {
    const { clock, statistics, tell, drain } = world();
    await tell(statistics, [measurement(5, 1)]);
    await clock.advance(5_000);
    statistics.record('a', [measurement(6, 1)], new Set([kernelId]), new Set());
    statistics.end('a', kernelId);
    await drain();
    expect(await statistics.find(kernelId)).toBeUndefined();
  });

  it('are known at the end of a kernel that its agent, back from a time away, measures no more', async () => {
    const { statistics, tell } = world();
    await tell(statistics, [measurement(5, 1)]);
    await tell(statistics, []);
    expect(await statistics.find(kernelId)).toMatchObject({ cpuMs: 5 });
    expect(statistics.end('a', kernelId)).toMatchObject({ cpuMs: 5 });
  });

  it('are taken over at the end of a kernel whose agent came back to another manager, unless live values are away', async () => {
    const { manager, statistics, tell, goAway } = world();
    await tell(statistics, [measurement(5, 1)]);
    const other = manager();
    expect(other.end('a', kernelId)).toBeUndefined();
    goAway(true);
    expect(await other.takeOver(kernelId)).toBeUndefined();
    goAway(false);
    expect(await other.takeOver(kernelId)).toMatchObject({ cpuMs: 5 });
    expect(await other.find(kernelId)).toBeUndefined();
  });

  it('are gone when the agent has the kernel no more, and expire when nobody measures', async () => {
    const { clock, statistics, tell } = world();
    await tell(statistics, [measurement(5, 1)]);
    await tell(statistics, [], []);
    expect(await statistics.find(kernelId)).toBeUndefined();
    await tell(statistics, [measurement(5, 1)]);
    await clock.advance(120_001);
    expect(await statistics.find(kernelId)).toBeUndefined();
  });

  it('go on after live values were away, which is said once', async () => {
    const { clock, logs, statistics, tell, goAway } = world();
    goAway(true);
    for (let i = 0; i < 3; i++) {
      await tell(statistics, [measurement(i, 1)]);
      await clock.advance(5_000);
    }
    expect(logs.records.filter(({ msg }) => msg === 'statistics of kernels cannot be kept')).toHaveLength(1);
    goAway(false);
    await tell(statistics, [measurement(9, 1)]);
    expect((await statistics.find(kernelId))?.cpuMs).toBe(9);
  });
});
