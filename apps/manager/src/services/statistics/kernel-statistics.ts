import { type KernelMeasurement, metricsSchema } from '@backend.ai/contract';
import type { LiveValues } from '@backend.ai/coordination';
import { type Clock, deferred } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import { z } from 'zod';
import { withBusySeconds } from './busy-seconds.ts';
import { addPoint, otherValues } from './usage-series.ts';

const amount = z.number().nullable();
const kernelUseSchema = z.object({
  /** When it was measured, by the clock of the manager that heard of it. */
  atMs: z.number(),
  cpuMs: amount,
  cpuPercent: amount,
  memoryBytes: amount,
  memoryPeakBytes: amount,
  metrics: metricsSchema.optional(),
  /** How long devices of each accelerator (`cuda`) were busy in all: two at half load for a second are one second. */
  busySeconds: z.record(z.string(), z.number()).optional(),
  /** Whether its programs stood still when it was measured, and for how long they have in all. */
  paused: z.boolean().optional(),
  pausedMs: z.number().optional(),
  series: z
    .array(
      z.object({
        ...{ atMs: z.number(), cpuMs: amount, memoryBytes: amount, pausedMs: z.number().optional() },
        others: z.record(z.string(), z.number()).optional(),
      }),
    )
    .readonly(),
});
/** What is known of the use of one kernel. */
export type KernelUse = Readonly<z.infer<typeof kernelUseSchema>>;

export interface KernelStatisticsOptions {
  readonly liveValues: LiveValues;
  /** How long the series has to reach back, in milliseconds. */
  readonly keepMs: () => number;
  readonly clock: Clock;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
}

/** Of a kernel that nobody measures any more nothing is known. */
const expiryMs = 120_000;

/**
 * What kernels use, as their agents tell it: kept in live values, so that every manager knows it and another one can go
 * on with an agent, and forgotten when the kernel ends. It is told with heartbeats, which must neither wait for it nor
 * fail with it: it is kept in the background, for one agent in order.
 */
export class KernelStatistics {
  readonly #options: KernelStatisticsOptions;
  /** By agent, of those that tell this manager: its kernels. */
  readonly #known = new Map<string, Map<string, KernelUse>>();
  readonly #underWay = new Map<string, Promise<void>>();
  /** The live values cannot be written: told once. */
  #failing = false;

  constructor(options: KernelStatisticsOptions) {
    this.#options = options;
  }

  /**
   * @param kernels Those that the agent has by what we know: others have ended, or are nobody's
   * @param paused Those whose programs stand still
   */
  record(
    agentId: string,
    measurements: readonly KernelMeasurement[],
    kernels: ReadonlySet<string>,
    paused: ReadonlySet<string>,
  ): void {
    // The next heartbeat tells the newest again.
    if (this.#underWay.has(agentId)) return;
    const now = this.#options.clock.now();
    const ours = measurements.filter(({ kernelId }) => kernels.has(kernelId));
    if (ours.length === 0 && !this.#known.has(agentId)) return;
    const keeping = deferred<void>();
    this.#underWay.set(agentId, keeping.promise);
    this.#options.tasks.start('keep statistics', async () => {
      try {
        await this.#keep(agentId, ours, kernels, paused, now);
        this.#failing = false;
      } catch (error) {
        if (!this.#failing)
          this.#options.logger.warn('statistics of kernels cannot be kept', { agent: agentId, error });
        this.#failing = true;
      } finally {
        this.#underWay.delete(agentId);
        keeping.resolve();
      }
    });
  }

  /**
   * The kernel has ended: nothing of it is kept. Answers what was known last, if its agent told this manager; else see
   * `takeOver`.
   */
  end(agentId: string, kernelId: string): KernelUse | undefined {
    const { tasks, liveValues } = this.#options;
    const last = this.#known.get(agentId)?.get(kernelId);
    const keeping = this.#underWay.get(agentId);
    if (last || keeping) {
      tasks.start('forget statistics', async () => {
        await keeping;
        if (this.#known.get(agentId)?.delete(kernelId)) await liveValues.delete(keyOf(kernelId));
      });
    }
    return last;
  }

  /**
   * The same of a kernel whose agent told another manager. Undefined also where live values are away: ends do not wait
   * for them.
   */
  async takeOver(kernelId: string): Promise<KernelUse | undefined> {
    try {
      const last = await this.find(kernelId);
      if (last) await this.#options.liveValues.delete(keyOf(kernelId));
      return last;
    } catch (error) {
      this.#options.logger.warn('statistics of an ended kernel cannot be read', { kernel_id: kernelId, error });
      return undefined;
    }
  }

  /** What is kept of one kernel and cannot be read counts as nothing: it is kept anew with the next measurement. */
  async find(kernelId: string): Promise<KernelUse | undefined> {
    const text = await this.#options.liveValues.get(keyOf(kernelId));
    if (text === null) return undefined;
    try {
      return kernelUseSchema.parse(JSON.parse(text));
    } catch (error) {
      this.#options.logger.warn('statistics of a kernel cannot be read', { kernel_id: kernelId, error });
      return undefined;
    }
  }

  async #keep(
    agentId: string,
    measurements: readonly KernelMeasurement[],
    kernels: ReadonlySet<string>,
    paused: ReadonlySet<string>,
    now: number,
  ): Promise<void> {
    const { liveValues, keepMs } = this.#options;
    const before = this.#known.get(agentId) ?? new Map<string, KernelUse>();
    // One that is measured no more may have ended while its agent was away: its end is still to be told.
    const present = new Map([...before].filter(([kernelId]) => kernels.has(kernelId)));
    await Promise.all(
      measurements.map(async ({ kernelId, ageMs, ...measured }) => {
        const last = before.get(kernelId) ?? (await this.find(kernelId));
        const next = following(last, { atMs: now - ageMs, paused: paused.has(kernelId), ...measured }, keepMs());
        present.set(kernelId, next);
        if (next !== last) await liveValues.set(keyOf(kernelId), JSON.stringify(next), expiryMs);
      }),
    );
    if (present.size > 0) this.#known.set(agentId, present);
    else this.#known.delete(agentId);
    const ended = [...before.keys()].filter((kernelId) => !present.has(kernelId));
    await Promise.all(ended.map((kernelId) => liveValues.delete(keyOf(kernelId))));
  }
}

/** The same one when there is nothing newer: measurements are told until they are followed by others. */
function following(
  last: KernelUse | undefined,
  measured: Omit<KernelUse, 'series' | 'pausedMs' | 'busySeconds'>,
  keepMs: number,
): KernelUse {
  const { atMs, cpuMs, memoryBytes, metrics = {} } = measured;
  if (last && atMs - last.atMs < sameWithinMs) return last;
  const pausedMs = (last?.pausedMs ?? 0) + (last?.paused ? atMs - last.atMs : 0);
  const point = { atMs, pausedMs, cpuMs, memoryBytes, others: otherValues(metrics) };
  return {
    ...{ ...measured, pausedMs },
    busySeconds: withBusySeconds(last?.busySeconds, metrics, last ? atMs - last.atMs : 0),
    memoryPeakBytes: highest(measured.memoryPeakBytes, last?.memoryPeakBytes),
    series: addPoint(last?.series ?? [], point, keepMs),
  };
}

/** Of peaks told by several: an agent knows of none before it started. Null: none is known. */
export function highest(...peaks: ReadonlyArray<number | null | undefined>): number | null {
  const known = peaks.filter((peak) => typeof peak === 'number');
  return known.length === 0 ? null : Math.max(...known);
}

/** The age of a measurement is rounded, and the way to here takes its time. */
const sameWithinMs = 1_000;

function keyOf(kernelId: string): string {
  return `kernel:${kernelId}:statistics`;
}
