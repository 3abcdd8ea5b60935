import type { KernelSpec } from '@backend.ai/contract';
import type { RequestId } from '@backend.ai/core';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { KernelHandle, KernelUsage } from '../backends/backend.ts';
import { unknownAllocation } from '../resources/kernel-resources.ts';
import type { Measurements } from '../statistics/metric-histories.ts';
import { Kernel } from './kernel.ts';
import { KernelMeter } from './kernel-meter.ts';

function running(kernelId: string, measure: () => Promise<KernelUsage>): Kernel {
  const kernel = new Kernel(
    { kernelId, slots: { cpu: '2', mem: '4096' } } as unknown as KernelSpec,
    'r' as RequestId,
    {} as Kernel['plan'],
    unknownAllocation,
  );
  kernel.state = 'running';
  kernel.handle = { measure } as KernelHandle;
  return kernel;
}

function meterOf(...kernels: Kernel[]) {
  return meterWith(async () => ({}), ...kernels);
}

function meterWith(devicesOf: (kernel: Kernel) => Promise<Measurements>, ...kernels: Kernel[]) {
  const clock = new FakeClock();
  const logs = collectLogs('agent');
  const told = { kernels: () => kernels, scratchOf: () => 77, devicesOf };
  const options = { ...told, intervalMs: 5_000, clock, logger: logs.logger };
  const meter = new KernelMeter(options);
  meter.start();
  onTestFinished(async () => {
    await Promise.all([meter.stop(), clock.advance(0)]);
    expect(clock.pendingTimers).toBe(0);
  });
  const of = (kernelId: string) => meter.measurements().find((each) => each.kernelId === kernelId);
  return { meter, clock, logs, kernels, of };
}

describe('the meter of kernels', () => {
  it('tells the rate between two measurements, in per cent of one core, and the most memory seen', async () => {
    let usage: KernelUsage = { cpuMs: 1_000, memoryBytes: 500 };
    const { clock, of } = meterOf(running('a', async () => usage));
    await clock.advance(1);
    expect(of('a')).toMatchObject({ cpuMs: 1_000, cpuPercent: null, memoryBytes: 500, memoryPeakBytes: 500 });
    usage = { cpuMs: 8_500, memoryBytes: 200 };
    await clock.advance(5_000);
    expect(of('a')).toMatchObject({ cpuMs: 8_500, cpuPercent: 150, memoryBytes: 200, memoryPeakBytes: 500 });
    await clock.advance(1_000);
    expect(of('a')?.ageMs).toBeGreaterThanOrEqual(1_000);
  });

  it('takes a counter that goes back for no use', async () => {
    let cpuMs = 5_000;
    const { clock, of } = meterOf(running('a', async () => ({ cpuMs, memoryBytes: null })));
    await clock.advance(1);
    cpuMs = 100;
    await clock.advance(5_000);
    expect(of('a')).toMatchObject({ cpuMs: 100, cpuPercent: 0, memoryBytes: null, memoryPeakBytes: null });
  });

  it('measures the others when one is broken and another one never answers, and says so once', async () => {
    let asked = 0;
    const hangs = running('hangs', () => {
      asked += 1;
      return new Promise(() => {});
    });
    const broken = running('broken', () => Promise.reject(new Error('no such file')));
    const { clock, logs, of } = meterOf(
      hangs,
      broken,
      running('sound', async () => ({ cpuMs: clock.monotonic(), memoryBytes: 1 })),
    );
    await clock.advance(30_000);
    expect(of('sound')?.cpuPercent).toBe(100);
    expect([of('hangs'), of('broken')]).toEqual([undefined, undefined]);
    expect(asked).toBe(1);
    const warned = logs.records.filter(({ msg }) => msg === 'kernel could not be measured');
    expect(warned.map(({ kernel_id }) => kernel_id).sort()).toEqual(['broken', 'hangs']);
  });

  it('tells all that was measured under the names of the official API, and nothing of what is not', async () => {
    const usage = { cpuMs: 10, memoryBytes: 1_024, readBytes: 5, writtenBytes: null, receivedBytes: 100 };
    const devices = { cuda_util: { kind: 'gauge', unit: 'percent', value: 30, capacity: 100 } } as const;
    const { clock, of } = meterWith(
      async () => devices,
      running('a', async () => usage),
    );
    await clock.advance(1);
    const first = of('a')?.metrics ?? {};
    expect(Object.keys(first).sort()).toEqual(['cpu_used', 'cuda_util', 'io_read', 'io_scratch_size', 'mem']);
    expect(first.mem).toMatchObject({ current: 1_024, capacity: 4_096, unit: 'bytes' });
    expect(first.io_scratch_size).toMatchObject({ current: 77, capacity: null });
    await clock.advance(5_000);
    expect(of('a')?.metrics).toMatchObject({ cpu_util: { current: 0, unit: 'percent' }, net_rx: { unit: 'bps' } });
  });

  it('tells nothing of accelerators that can be measured no more, and concludes with what was known of them', async () => {
    const devices = { cuda_util: { kind: 'gauge', unit: 'percent', value: 30, capacity: 100 } } as const;
    let told: Measurements = devices;
    const kernel = running('a', async () => ({ cpuMs: 10, memoryBytes: null }));
    const { meter, clock, of } = meterWith(async () => told, kernel);
    await clock.advance(1);
    expect(of('a')?.metrics).toHaveProperty('cuda_util');
    told = {};
    await clock.advance(10_000);
    expect(of('a')?.metrics).toHaveProperty('cuda_util');
    await clock.advance(10_000);
    expect(Object.keys(of('a')?.metrics ?? {}).sort()).toEqual(['cpu_used', 'cpu_util', 'io_scratch_size']);
    expect(await meter.conclude(kernel)).toMatchObject({ cuda_util: { current: 30 }, cpu_used: { current: 10 } });
    told = devices;
    await clock.advance(5_000);
    expect(of('a')?.metrics).toHaveProperty('cuda_util');
  });

  it('measures a kernel whose accelerators do not answer', async () => {
    let cpuMs = 10;
    let answer = (_devices: Measurements): void => {};
    const late = new Promise<Measurements>((resolve) => {
      answer = resolve;
    });
    const { clock, of } = meterWith(
      () => late,
      running('a', async () => ({ cpuMs, memoryBytes: null })),
    );
    await clock.advance(1);
    cpuMs = 20;
    await clock.advance(5_000);
    expect(of('a')).toMatchObject({ cpuMs: 20 });
    answer({});
  });

  it('tells nothing of a kernel from the moment that it runs no more, also when a measurement comes late', async () => {
    let answer = (_usage: KernelUsage): void => {};
    const slow = running('slow', () => new Promise((resolve) => (answer = resolve)));
    const { clock, kernels, of } = meterOf(
      slow,
      running('a', async () => ({ cpuMs: 1, memoryBytes: 1 })),
    );
    await clock.advance(1);
    expect(of('a')).toBeDefined();
    kernels.pop();
    expect(of('a')).toBeUndefined();
    slow.state = 'terminating';
    kernels.pop();
    answer({ cpuMs: 1, memoryBytes: 1 });
    await clock.advance(5_000);
    expect(of('slow')).toBeUndefined();
  });

  it('looks once more at a kernel that has ended, at what was counted, if that is no less than before, and not at what it holds', async () => {
    let usage: KernelUsage = { cpuMs: 1_000, memoryBytes: 500 };
    const kernel = running('a', async () => usage);
    const { meter, clock } = meterOf(kernel);
    await clock.advance(1);
    usage = { cpuMs: 3_000, memoryBytes: 0, readBytes: 9 };
    kernel.state = 'terminating';
    expect(await meter.conclude(kernel)).toMatchObject({
      cpu_used: { current: 3_000 },
      mem: { current: 500, min: 500 },
      io_read: { current: 9 },
    });
    usage = { cpuMs: 2_000, memoryBytes: 0, readBytes: 10 };
    expect(await meter.conclude(kernel)).toMatchObject({ cpu_used: { current: 3_000 }, io_read: { current: 10 } });
    const short = running('b', async () => usage);
    expect((await meter.conclude(short))?.cpu_used?.current).toBe(2_000);
    const broken = running('c', () => Promise.reject(new Error('gone')));
    expect(await meter.conclude(broken)).toBeUndefined();
  });
});
