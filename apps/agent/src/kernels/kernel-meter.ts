import type { KernelMeasurement } from '@backend.ai/contract';
import { AppError, type Clock, delay } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { KernelUsage } from '../backends/backend.ts';
import type { Kernel } from './kernel.ts';

export interface KernelMeterOptions {
  /** Those that run now. */
  readonly kernels: () => Iterable<Kernel>;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How long one kernel may take to tell what it uses. */
const deadlineMs = 2_000;

interface Reading {
  readonly measuredAt: number;
  readonly cpuMs: number | null;
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
  readonly memoryPeakBytes: number | null;
}

/**
 * Measures all running kernels every few seconds, each by itself: one that cannot be measured, or takes for ever, keeps
 * none of the others from it. What a kernel told last stays known until it ends.
 */
export class KernelMeter {
  readonly #options: KernelMeterOptions;
  readonly #readings = new Map<string, Reading>();
  /** Not asked again before they have answered. */
  readonly #underWay = new Set<string>();
  /** Told once in the log, until they can be measured again. */
  readonly #failing = new Set<string>();
  readonly #loop: ReconcileLoop;

  constructor(options: KernelMeterOptions) {
    this.#options = options;
    const { clock, logger, intervalMs: tickMs } = options;
    this.#loop = new ReconcileLoop({ name: 'measure kernels', tickMs, clock, logger, run: () => this.#run() });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** The newest measurement of each kernel that has one. */
  measurements(): KernelMeasurement[] {
    const now = this.#options.clock.monotonic();
    return [...this.#readings].map(([kernelId, { measuredAt, ...values }]) => ({
      kernelId,
      ageMs: Math.round(now - measuredAt),
      ...values,
    }));
  }

  async #run(): Promise<void> {
    const kernels = [...this.#options.kernels()];
    const present = new Set(kernels.map(({ spec }) => spec.kernelId));
    for (const kernelId of this.#readings.keys()) if (!present.has(kernelId)) this.#readings.delete(kernelId);
    for (const kernelId of this.#failing) if (!present.has(kernelId)) this.#failing.delete(kernelId);
    await Promise.all(kernels.map((kernel) => this.#measure(kernel)));
  }

  async #measure({ spec: { kernelId }, handle }: Kernel): Promise<void> {
    if (!handle || this.#underWay.has(kernelId)) return;
    this.#underWay.add(kernelId);
    const measuring = Promise.resolve()
      .then(() => handle.measure())
      .finally(() => this.#underWay.delete(kernelId));
    try {
      this.#keep(kernelId, await this.#inTime(measuring));
      this.#failing.delete(kernelId);
    } catch (error) {
      if (!this.#failing.has(kernelId)) {
        this.#options.logger.warn('kernel could not be measured', { kernel_id: kernelId, error });
      }
      this.#failing.add(kernelId);
    }
  }

  async #inTime(measuring: Promise<KernelUsage>): Promise<KernelUsage> {
    const over = new AbortController();
    const late = delay(this.#options.clock, deadlineMs, over.signal).then(() => null);
    const usage = await Promise.race([measuring, late]).finally(() => over.abort());
    if (usage) return usage;
    measuring.catch(() => {});
    throw new AppError('internal', `The kernel was not measured within ${deadlineMs} ms.`);
  }

  #keep(kernelId: string, { cpuMs, memoryBytes }: KernelUsage): void {
    const measuredAt = this.#options.clock.monotonic();
    const before = this.#readings.get(kernelId);
    this.#readings.set(kernelId, {
      measuredAt,
      cpuMs: cpuMs === null ? null : round(cpuMs),
      cpuPercent: before ? rate(before, cpuMs, measuredAt) : null,
      memoryBytes,
      memoryPeakBytes: memoryBytes === null ? null : Math.max(memoryBytes, before?.memoryPeakBytes ?? 0),
    });
  }
}

/** In per cent of one core. A counter that went back counts as no use. */
function rate(before: Reading, cpuMs: number | null, measuredAt: number): number | null {
  const elapsedMs = measuredAt - before.measuredAt;
  if (cpuMs === null || before.cpuMs === null || elapsedMs <= 0) return null;
  return round((Math.max(0, cpuMs - before.cpuMs) / elapsedMs) * 100);
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
