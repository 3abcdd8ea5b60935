import { InProcessLiveValues } from '@backend.ai/coordination';
import { BackgroundTasks } from '@backend.ai/telemetry';
import { collectLogs, FakeClock } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { KernelStatisticsRepository } from '../../repositories/kernel-statistics.ts';
import { KernelStatistics } from './kernel-statistics.ts';
import { StatisticsService } from './statistics-service.ts';

const kernelId = '0b5a0c2e-6f51-4f0c-9d2b-1f5a1f2f3a4b';
const metric = (current: number) => ({
  ...{ unit: 'bytes', current, capacity: null, min: 0, max: current, sum: current, avg: current, diff: 0, rate: 0 },
});

function world() {
  const { logger } = collectLogs('manager');
  const clock = new FakeClock();
  const tasks = new BackgroundTasks(logger);
  const liveValues = new InProcessLiveValues(clock);
  const manager = () => new KernelStatistics({ liveValues, keepMs: () => 600_000, clock, tasks, logger });
  const kept: Record<string, unknown>[] = [];
  const rows = {
    keep: async (_kernelId: string, _agentId: string, last: Record<string, unknown>) => void kept.push(last),
  } as unknown as KernelStatisticsRepository;
  const serviceOf = (statistics: KernelStatistics) =>
    new StatisticsService({ rows, statistics, windowMs: () => 600_000 });
  const measured = async (statistics: KernelStatistics) => {
    const amounts = { cpuMs: 2_000, cpuPercent: 1, memoryBytes: 5, memoryPeakBytes: 900 };
    const metrics = { cpu_used: metric(2_000), mem: metric(900) };
    const measurement = { kernelId, ageMs: 0, ...amounts, metrics };
    statistics.record('a', [measurement], new Set([kernelId]), new Set());
    await tasks.drain();
  };
  return { manager, serviceOf, measured, kept };
}

it('the most memory that a kernel had is what anybody knew, also when its agent has started anew', async () => {
  const { manager, serviceOf, measured, kept } = world();
  const statistics = manager();
  await measured(statistics);
  await serviceOf(statistics).end('a', kernelId, 1, { cpu_used: metric(3_000), mem: metric(10) });
  expect(kept).toMatchObject([
    { cpuMs: 3_000, memoryPeakBytes: 900, measured: { counted: { cpuSeconds: 3 }, memoryPeakBytes: 900 } },
  ]);
});

it('of a kernel that ended while its agent was away, and came back to another manager, is kept what was known last', async () => {
  const { manager, serviceOf, measured, kept } = world();
  await measured(manager());
  await serviceOf(manager()).end('a', kernelId, 1, undefined);
  expect(kept).toMatchObject([{ cpuMs: 2_000, measured: { counted: { cpuSeconds: 2 }, memoryPeakBytes: 900 } }]);
});
