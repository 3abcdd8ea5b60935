import type { KernelStatisticsView, Metrics, SessionStatisticsView, UsePoint } from '@backend.ai/contract';
import type { KernelStatisticsRepository, MeasuredKernel } from '../../repositories/kernel-statistics.ts';
import { highest, type KernelStatistics, type KernelUse } from './kernel-statistics.ts';
import { measuredUse } from './measured-use.ts';
import { averageOf, type UsageSeries } from './usage-series.ts';

export interface StatisticsServiceOptions {
  readonly rows: KernelStatisticsRepository;
  readonly statistics: KernelStatistics;
  /** Averages look back this far. */
  readonly windowMs: () => number;
}

/** What sessions use, and what ended ones had used. */
export class StatisticsService {
  readonly #options: StatisticsServiceOptions;

  constructor(options: StatisticsServiceOptions) {
    this.#options = options;
  }

  async ofKernels(kernels: readonly MeasuredKernel[]): Promise<Pick<SessionStatisticsView, 'windowMs' | 'kernels'>> {
    const { statistics, windowMs: window } = this.#options;
    const windowMs = window();
    const views = kernels.map(async (kernel) =>
      toView(kernel, (await statistics.find(kernel.id)) ?? endOf(kernel), windowMs),
    );
    return { windowMs, kernels: await Promise.all(views) };
  }

  /**
   * The agent has reported the end of the kernel.
   * @param metrics What it had used in all, by its agent; older ones do not tell, and what was known last has to do
   */
  async end(agentId: string, kernelId: string, endedAtMs: number, metrics: Metrics | undefined): Promise<void> {
    const { statistics, rows } = this.#options;
    const last = statistics.end(agentId, kernelId) ?? (metrics ? undefined : await statistics.takeOver(kernelId));
    if (!last && !metrics) return;
    const { series: _, ...kept } = last ?? { ...nothingKnown, series: [] };
    const { cpu_used: cpu, mem } = metrics ?? {};
    const final = metrics && {
      ...{ atMs: endedAtMs, metrics, cpuMs: cpu?.current ?? kept.cpuMs },
      ...{ memoryBytes: mem?.current ?? kept.memoryBytes, memoryPeakBytes: highest(mem?.max, kept.memoryPeakBytes) },
    };
    const measured = measuredUse(metrics ?? last?.metrics ?? {}, last);
    await rows.keep(kernelId, agentId, { ...kept, ...final, measured });
  }
}

const nothingKnown = { cpuMs: null, cpuPercent: null, memoryBytes: null, memoryPeakBytes: null };

function endOf({ kept }: MeasuredKernel): KernelUse | undefined {
  return kept === null ? undefined : ({ ...kept, series: [] } as unknown as KernelUse);
}

function toView(kernel: MeasuredKernel, use: KernelUse | undefined, windowMs: number): KernelStatisticsView {
  const average = averageOf(use?.series ?? [], windowMs);
  const { cpu, mem } = kernel.slots;
  return {
    kernelId: kernel.id,
    role: kernel.role,
    index: kernel.index,
    agent: kernel.agentId,
    measuredAt: use ? new Date(use.atMs).toISOString() : null,
    cpu: {
      usedMs: use?.cpuMs ?? null,
      percent: use?.cpuPercent ?? null,
      averagePercent: rounded(average.cpuPercent, 1_000),
      capacityPercent: cpu === undefined ? null : Number(cpu) * 100,
    },
    memory: {
      bytes: use?.memoryBytes ?? null,
      peakBytes: use?.memoryPeakBytes ?? null,
      averageBytes: rounded(average.memoryBytes, 1),
      capacityBytes: mem === undefined ? null : Number(mem),
    },
    metrics: use?.metrics ?? {},
    series: pointsOf(use?.series ?? [], windowMs),
    overall: {
      attempts: kernel.earlier.attempts + 1,
      cpuUsedMs: combined([kernel.earlier.cpuMs, use?.cpuMs], (a, b) => a + b),
      memoryPeakBytes: combined([kernel.earlier.memoryPeakBytes, use?.memoryPeakBytes], Math.max),
    },
  };
}

/** Processor time of a point is what came since the one before. */
function pointsOf(series: UsageSeries, windowMs: number): UsePoint[] {
  return series.flatMap((point, index) => {
    if (point.atMs < (series.at(-1)?.atMs ?? 0) - windowMs) return [];
    const before = series[index - 1];
    const { cpuPercent } = before ? averageOf([before, point], point.atMs - before.atMs) : { cpuPercent: null };
    const { atMs, memoryBytes } = point;
    return [{ at: new Date(atMs).toISOString(), cpuPercent: rounded(cpuPercent, 1_000), memoryBytes }];
  });
}

function combined(
  amounts: ReadonlyArray<number | null | undefined>,
  combine: (a: number, b: number) => number,
): number | null {
  const known = amounts.filter((amount) => typeof amount === 'number');
  return known.length === 0 ? null : known.reduce((a, b) => combine(a, b));
}

function rounded(value: number | null, places: number): number | null {
  return value === null ? null : Math.round(value * places) / places;
}
