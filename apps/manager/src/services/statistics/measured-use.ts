import type { Metrics } from '@backend.ai/contract';
import type { MeasuredUse } from '@backend.ai/database';
import { highest, type KernelUse } from './kernel-statistics.ts';

/**
 * What is kept of an ended kernel for reports of usage.
 * @param metrics By its agent, which may have started after the kernel
 * @param last What managers knew of it
 */
export function measuredUse(
  metrics: Metrics,
  last: Pick<KernelUse, 'busySeconds' | 'memoryPeakBytes'> | undefined,
): MeasuredUse {
  const { cpu_used: cpu, io_read: read, io_write: written, mem } = metrics;
  const counted = { cpuSeconds: cpu && cpu.current / 1_000, readBytes: read?.current, writtenBytes: written?.current };
  const busy = Object.entries(last?.busySeconds ?? {}).map(
    ([device, seconds]) => [`${device}Seconds`, seconds] as const,
  );
  return {
    counted: Object.fromEntries(
      [...Object.entries(counted), ...busy].filter((entry): entry is [string, number] => entry[1] !== undefined),
    ),
    memoryPeakBytes: highest(mem?.max, last?.memoryPeakBytes),
  };
}
