import type { Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { folderSize } from '../files/folder-size.ts';
import type { Kernel } from './kernel.ts';

export interface ScratchMeterOptions {
  /** Those that run now. */
  readonly kernels: () => Iterable<Kernel>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const tickMs = 60_000;
const limits = { entries: 50_000, depth: 64 };
/** A folder is looked through for at most this part of the time. */
const shareOfTime = 1 / 200;

/**
 * How much the files of kernels take: looked through one after the other, in small portions, and the larger a folder is
 * the less often, so that what users put there does not decide what it costs. Of one that is too large nothing is known.
 */
export class ScratchMeter {
  readonly #options: ScratchMeterOptions;
  readonly #sizes = new WeakMap<Kernel, { readonly bytes: number | null; readonly dueAt: number }>();
  readonly #loop: ReconcileLoop;
  readonly #stop = new AbortController();

  constructor(options: ScratchMeterOptions) {
    this.#options = options;
    const { clock, logger } = options;
    this.#loop = new ReconcileLoop({ name: 'measure files', tickMs, clock, logger, run: () => this.#run() });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop.stop();
  }

  /** As of the last look, in bytes. */
  sizeOf(kernel: Kernel): number | null {
    return this.#sizes.get(kernel)?.bytes ?? null;
  }

  async #run(): Promise<void> {
    const { kernels, clock } = this.#options;
    for (const kernel of [...kernels()]) {
      const begunAt = clock.monotonic();
      const folder = kernel.handle?.scratch;
      if (!folder || (this.#sizes.get(kernel)?.dueAt ?? 0) > begunAt || this.#stop.signal.aborted) continue;
      const bytes = await folderSize(folder, limits, this.#stop.signal);
      const endedAt = clock.monotonic();
      this.#sizes.set(kernel, { bytes, dueAt: endedAt + (endedAt - begunAt) / shareOfTime });
    }
  }
}
