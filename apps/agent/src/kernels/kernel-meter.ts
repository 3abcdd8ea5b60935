import type { KernelMeasurement, Metrics } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { KernelUsage } from '../backends/backend.ts';
import { inTime } from '../statistics/in-time.ts';
import { finalMeasurements, kernelMeasurements } from '../statistics/kernel-measurements.ts';
import { currentForMs, type Measurements, MetricHistories } from '../statistics/metric-histories.ts';
import type { Kernel } from './kernel.ts';

export interface KernelMeterOptions {
  /** Those that run now. */
  readonly kernels: () => Iterable<Kernel>;
  /** What the files of a kernel take; null: not known. */
  readonly scratchOf: (kernel: Kernel) => number | null;
  /** What it does with its accelerators. Does not throw. */
  readonly devicesOf: (kernel: Kernel) => Promise<Measurements>;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How long one kernel may take to tell what it uses. */
const deadlineMs = 2_000;

interface Record {
  readonly histories: MetricHistories;
  measuredAt: number | undefined;
  /** Not asked again before it has answered. */
  underWay: boolean;
  /** Told once in the log, until it can be measured again. */
  failing: boolean;
}

/**
 * Measures all running kernels every few seconds, each by itself: one that cannot be measured, or takes for ever, keeps
 * none of the others from it. What a kernel told last stays known for as long as it runs: whoever asks is answered about
 * the kernels that run at that moment, so that a measurement that comes late brings no ended kernel back.
 */
export class KernelMeter {
  readonly #options: KernelMeterOptions;
  readonly #records = new WeakMap<Kernel, Record>();
  readonly #loop: ReconcileLoop;
  /** For itself: plugins may take longer than all else. */
  readonly #devicesLoop: ReconcileLoop;

  constructor(options: KernelMeterOptions) {
    this.#options = options;
    const { clock, logger, intervalMs: tickMs } = options;
    this.#loop = new ReconcileLoop({ name: 'measure kernels', tickMs, clock, logger, run: () => this.#run() });
    const measureAll = async (): Promise<void> => {
      await Promise.all([...options.kernels()].map((kernel) => this.#measureDevices(kernel)));
    };
    this.#devicesLoop = new ReconcileLoop({
      name: 'measure accelerators of kernels',
      tickMs,
      clock,
      logger,
      run: measureAll,
    });
  }

  start(): void {
    this.#loop.start();
    this.#devicesLoop.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#loop.stop(), this.#devicesLoop.stop()]);
  }

  /** The newest measurement of each kernel that has one: what can be measured no more is soon left out. */
  measurements(): KernelMeasurement[] {
    const now = this.#options.clock.monotonic();
    return [...this.#options.kernels()].flatMap((kernel) => {
      const { histories, measuredAt } = this.#records.get(kernel) ?? {};
      if (!histories || measuredAt === undefined) return [];
      const metrics = histories.metrics(measuredAt - currentForMs(this.#options.intervalMs));
      const { cpu_used: cpu, cpu_util: rate, mem } = metrics;
      const measurement: KernelMeasurement = {
        kernelId: kernel.spec.kernelId,
        ageMs: Math.round(now - measuredAt),
        cpuMs: cpu?.current ?? null,
        cpuPercent: rate ? rate.current / 10 : null,
        memoryBytes: mem?.current ?? null,
        memoryPeakBytes: mem?.max ?? null,
        metrics,
      };
      return [measurement];
    });
  }

  /** What a kernel that has ended had used in all; undefined when that was never measured. */
  async conclude(kernel: Kernel): Promise<Metrics | undefined> {
    const record = this.#recordOf(kernel);
    if (kernel.handle && !record.underWay) {
      const usage = await this.#ask(kernel, record);
      if (usage) this.#add(record, grown(finalMeasurements(usage, capacityOf(kernel)), record.histories.metrics()));
    }
    return record.measuredAt === undefined ? undefined : record.histories.metrics();
  }

  async #run(): Promise<void> {
    await Promise.all([...this.#options.kernels()].map((kernel) => this.#measure(kernel)));
  }

  async #measure(kernel: Kernel): Promise<void> {
    const record = this.#recordOf(kernel);
    if (!kernel.handle || record.underWay) return;
    const usage = await this.#ask(kernel, record);
    if (usage && kernel.state === 'running') this.#add(record, kernelMeasurements(usage, capacityOf(kernel)));
  }

  async #measureDevices(kernel: Kernel): Promise<void> {
    const measurements = await this.#options.devicesOf(kernel);
    if (kernel.state !== 'running') return;
    this.#recordOf(kernel).histories.add(measurements, this.#options.clock.monotonic());
  }

  #recordOf(kernel: Kernel): Record {
    const known = this.#records.get(kernel);
    if (known) return known;
    const record: Record = {
      ...{ histories: new MetricHistories(), measuredAt: undefined, underWay: false, failing: false },
    };
    this.#records.set(kernel, record);
    return record;
  }

  #add(record: Record, measurements: ReturnType<typeof kernelMeasurements>): void {
    record.measuredAt = this.#options.clock.monotonic();
    record.histories.add(measurements, record.measuredAt);
  }

  async #ask(kernel: Kernel, record: Record): Promise<KernelUsage | undefined> {
    const { spec, handle } = kernel;
    record.underWay = true;
    const measuring = Promise.resolve()
      .then(() => handle?.measure())
      .finally(() => {
        record.underWay = false;
      });
    try {
      const usage = await inTime(this.#options.clock, measuring, deadlineMs, 'The kernel');
      record.failing = false;
      return usage && { scratchBytes: this.#options.scratchOf(kernel), ...usage };
    } catch (error) {
      if (!record.failing)
        this.#options.logger.warn('kernel could not be measured', { kernel_id: spec.kernelId, error });
      record.failing = true;
      return undefined;
    }
  }
}

/** What has ended may be counted no more: where nothing but processes can be asked, some of them are gone by then. */
function grown(counted: Measurements, before: Metrics): Measurements {
  const entries = Object.entries(counted);
  return Object.fromEntries(entries.filter(([name, now]) => now && now.value >= (before[name]?.current ?? 0)));
}

function capacityOf({ spec }: Kernel): { readonly memoryBytes: number | null } {
  const { mem } = spec.slots;
  return { memoryBytes: mem === undefined ? null : Number(mem) };
}
