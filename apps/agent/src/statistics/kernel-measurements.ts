import type { KernelUsage } from '../backends/backend.ts';
import type { Measurement, MetricKind } from './metric.ts';
import type { Measurements } from './metric-histories.ts';

export interface KernelCapacity {
  readonly memoryBytes: number | null;
}

/** The numbers of a kernel, under the names that the official API has for them. */
export function kernelMeasurements(usage: KernelUsage, capacity: KernelCapacity): Measurements {
  return {
    cpu_used: of('counter', 'msec', usage.cpuMs),
    // In milliseconds per second: 1000 is one core.
    cpu_util: of('rate', 'percent', usage.cpuMs, 1_000),
    mem: of('gauge', 'bytes', usage.memoryBytes, capacity.memoryBytes),
    io_read: of('counter', 'bytes', usage.readBytes),
    io_write: of('counter', 'bytes', usage.writtenBytes),
    net_rx: of('rate', 'bps', usage.receivedBytes),
    net_tx: of('rate', 'bps', usage.sentBytes),
    io_scratch_size: of('gauge', 'bytes', usage.scratchBytes),
  };
}

/** Of one that has ended: what it holds now says nothing, but what was counted until now is all that it used. */
export function finalMeasurements(usage: KernelUsage, capacity: KernelCapacity): Measurements {
  const all = Object.entries(kernelMeasurements(usage, capacity));
  return Object.fromEntries(all.filter(([, measurement]) => measurement?.kind === 'counter'));
}

function of(
  kind: MetricKind,
  unit: string,
  value: number | null | undefined,
  capacity: number | null = null,
): Measurement | null {
  return value === null || value === undefined ? null : { kind, unit, value, capacity };
}
