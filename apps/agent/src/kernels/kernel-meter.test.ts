import type { KernelSpec } from '@backend.ai/contract';
import type { RequestId } from '@backend.ai/core';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { KernelHandle, KernelUsage } from '../backends/backend.ts';
import { Kernel } from './kernel.ts';
import { KernelMeter } from './kernel-meter.ts';

function running(kernelId: string, measure: () => Promise<KernelUsage>): Kernel {
  const kernel = new Kernel({ kernelId } as KernelSpec, 'r' as RequestId, {} as Kernel['plan']);
  kernel.state = 'running';
  kernel.handle = { measure } as KernelHandle;
  return kernel;
}

function meterOf(...kernels: Kernel[]) {
  const clock = new FakeClock();
  const logs = collectLogs('agent');
  const meter = new KernelMeter({ kernels: () => kernels, intervalMs: 5_000, clock, logger: logs.logger });
  meter.start();
  onTestFinished(async () => {
    await Promise.all([meter.stop(), clock.advance(0)]);
    expect(clock.pendingTimers).toBe(0);
  });
  const of = (kernelId: string) => meter.measurements().find((each) => each.kernelId === kernelId);
  return { clock, logs, kernels, of };
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

  it('forgets a kernel that runs no more', async () => {
    const { clock, kernels, of } = meterOf(running('a', async () => ({ cpuMs: 1, memoryBytes: 1 })));
    await clock.advance(1);
    expect(of('a')).toBeDefined();
    kernels.pop();
    await clock.advance(5_000);
    expect(of('a')).toBeUndefined();
  });
});
