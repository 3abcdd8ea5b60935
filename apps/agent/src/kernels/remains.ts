import { AppError, type Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { Backend, CreateStep } from '../backends/backend.ts';
import { undoSteps } from './create-steps.ts';
import type { Kernel } from './kernel.ts';

export interface RemainsOptions {
  readonly backend: Backend;
  /** Whether it has not ended yet. */
  readonly lives: (kernelId: string) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Strays that are younger stay, in milliseconds; a minute unless said otherwise. */
  readonly strayGraceMs?: number | undefined;
}

/** What operators see of something that no kernel has. */
export interface StrayView {
  readonly name: string;
  /** When it was made; null: nobody knows. */
  readonly since: string | null;
  /** Whether it is old enough to be removed. */
  readonly due: boolean;
}

/** A kernel that has to end, or has ended, and could not be removed at once. */
interface Left {
  readonly kernel: Kernel;
  readonly steps: readonly CreateStep[];
  /** Absent once its end has been told. */
  readonly conclude: (() => void) | undefined;
}

/** What was made later may still be in the making, by a call of an earlier life of the agent. */
const strayGraceMs = 60_000;
/** What could not be removed is tried again after this many milliseconds at most, sooner at first. */
const sweepTickMs = 30_000;

/**
 * Removes what kernels leave: their own steps are undone until they are, and what bears our mark and is nobody's goes
 * too.
 */
export class Remains {
  readonly #options: RemainsOptions;
  readonly #left = new Map<string, Left>();
  readonly #sweeper: ReconcileLoop;
  readonly #startedAt: number;
  readonly #strayGraceMs: number;
  /** Whether what nobody knows has been removed. */
  #swept = false;

  constructor(options: RemainsOptions) {
    this.#options = options;
    const { logger, clock } = options;
    this.#startedAt = clock.monotonic();
    this.#strayGraceMs = options.strayGraceMs ?? strayGraceMs;
    this.#sweeper = new ReconcileLoop({
      name: 'remove remains',
      tickMs: sweepTickMs,
      logger,
      clock,
      run: () => this.#sweep(),
    });
  }

  /** Tries again from now on what could not be removed, and looks for strays. */
  start(): void {
    this.#sweeper.start();
  }

  stop(): Promise<void> {
    return this.#sweeper.stop();
  }

  /** Whether something of an ended kernel is still being removed. */
  has(kernelId: string): boolean {
    return this.#left.has(kernelId);
  }

  /** @param conclude Tells the end. Not before the last process has ended; files may take longer. */
  remove(kernel: Kernel, conclude: () => void): Promise<void> {
    return this.#undo({ kernel, steps: kernel.plan.steps, conclude });
  }

  /**
   * Removes what bears our mark and belongs to no kernel we know, unless it is too young. Answers what there was.
   * @param dryRun Only tells
   */
  async sweepStrays(dryRun = false): Promise<StrayView[]> {
    const { backend, lives, clock, logger } = this.#options;
    const isKnown = (kernelId: string): boolean => lives(kernelId) || this.#left.has(kernelId);
    const views: StrayView[] = [];
    for (const { name, kernelId, since, remove } of await backend.strays(isKnown)) {
      const due = since === null || clock.now() - since >= this.#strayGraceMs;
      views.push({ name, since: since === null ? null : new Date(since).toISOString(), due });
      // It may have been ordered meanwhile.
      if (dryRun || !due || (kernelId !== null && isKnown(kernelId))) continue;
      await remove();
      logger.warn('stray removed', { stray: name });
    }
    return views;
  }

  async #undo(left: Left): Promise<void> {
    const { kernel, conclude } = left;
    const { kernelId } = kernel.spec;
    const { steps, launchStep } = kernel.plan;
    const remaining = await undoSteps(left.steps, this.#options.logger.with({ kernel_id: kernelId }));
    const hasEnded = remaining.every(({ name }) => name !== launchStep);
    if (remaining.length === 0) this.#left.delete(kernelId);
    else {
      this.#left.set(kernelId, { kernel, steps: remaining, conclude: hasEnded ? undefined : conclude });
      this.#sweeper.hint();
    }
    if (!hasEnded || !conclude) return;
    // What it held is free, whatever its files do.
    const [reserve] = steps;
    await reserve?.undo();
    conclude();
  }

  /** Tries again what could not be removed, and removes once what nobody knows. */
  async #sweep(): Promise<void> {
    const { backend, clock } = this.#options;
    for (const left of [...this.#left.values()]) await this.#undo(left);
    if (!this.#swept) {
      const strays = await this.sweepStrays();
      // What an earlier life had ordered may appear until then.
      const late = clock.monotonic() - this.#startedAt >= this.#strayGraceMs;
      this.#swept = late && strays.every(({ due }) => due);
    }
    await backend.expire();
    if (this.#left.size > 0) {
      const kernels = [...this.#left.keys()];
      throw new AppError('internal', 'Some kernels have left what cannot be removed yet.', { detail: { kernels } });
    }
  }
}
