import type { KernelMeasurement, KernelReport, Metric } from '@backend.ai/contract';
import { Metrics } from '@backend.ai/runtime/metrics';
import { expect, it, onTestFinished } from 'vitest';
import { agentSeries, type MeasuredAgent } from './metric-series.ts';

const metric = (current: number, capacity: number | null = null, unit = 'bytes'): Metric => ({
  ...{ unit, current, capacity, min: 0, max: 0, sum: current, avg: 0, diff: 0, rate: 0 },
});
const kernel = (kernelId: string) => ({ kernelId, sessionId: `s-${kernelId}` }) as KernelReport;
const used = (kernelId: string): KernelMeasurement => ({
  ...{ kernelId, ageMs: 0, cpuMs: null, cpuPercent: null, memoryBytes: null, memoryPeakBytes: null },
  metrics: { cpu_used: metric(1_500, null, 'msec'), mem: metric(10, 20), cuda_util: metric(30, 100, 'percent') },
});

it('Prometheus sees kernels that run in its own units, and an ended one at no look after its end', async () => {
  const agent = {
    kernels: [kernel('a'), kernel('b')],
    measurements: [used('a'), used('b')],
    machine: {
      mem: metric(7, 9),
      cuda_power: metric(60, null, 'Watts'),
      cpu_util: { ...metric(2_000, 5_000, 'msec'), sum: 60_000 },
    },
  } satisfies MeasuredAgent;
  const metrics = new Metrics('agent');
  onTestFinished(() => metrics.close());
  for (const series of agentSeries(() => agent)) metrics.addSeries(series);
  const { text } = await metrics.render();
  expect(text).toContain('# TYPE backend_kernel_cpu_seconds_total counter\n');
  expect(text).toContain('backend_kernel_cpu_seconds_total{kernel="a",session="s-a",component="agent"} 1.5\n');
  expect(text).toContain('backend_kernel_memory_limit_bytes{kernel="b",session="s-b",component="agent"} 20\n');
  expect(text).toContain(
    'backend_kernel_device_usage{kernel="a",session="s-a",metric="cuda_util",unit="percent",component="agent"} 30\n',
  );
  expect(text).not.toContain('backend_kernel_scratch_bytes{');
  expect(text.match(/^backend_machine_device_usage\{.*$/gm)).toEqual([
    'backend_machine_device_usage{metric="cuda_power",unit="Watts",component="agent"} 60',
  ]);
  expect(text).toContain('backend_machine_cpu_seconds_total{component="agent"} 60\n');
  expect(text).toContain('backend_machine_memory_capacity_bytes{component="agent"} 9\n');

  // A measurement that comes late is of a kernel that is not there any more.
  agent.kernels.pop();
  const later = (await metrics.render()).text;
  expect(later).not.toContain('kernel="b"');
  expect(later).toContain('backend_kernel_cpu_seconds_total{kernel="a",session="s-a",component="agent"} 1.5\n');
});
