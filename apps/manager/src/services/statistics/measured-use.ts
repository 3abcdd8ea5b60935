import type { Metrics } from '@backend.ai/contract';
import type { MeasuredUse } from '@backend.ai/database';

/** What is kept of an ended kernel for reports of usage. */
export function measuredUse(metrics: Metrics): MeasuredUse {
  const { cpu_used: cpu, io_read: read, io_write: written, mem } = metrics;
  const counted = { cpuSeconds: cpu && cpu.current / 1_000, readBytes: read?.current, writtenBytes: written?.current };
  const busyDevices = Object.entries(metrics).flatMap(([name, { avg }]) => {
    const device = /^(?!cpu_)(.+)_util$/.exec(name)?.[1];
    return device === undefined ? [] : [[device, avg / 100] as const];
  });
  return {
    counted: Object.fromEntries(
      Object.entries(counted).filter((entry): entry is [string, number] => entry[1] !== undefined),
    ),
    busyDevices: Object.fromEntries(busyDevices),
    memoryPeakBytes: mem?.max ?? null,
  };
}
