import type { BatchEnd } from '@backend.ai/contract';
import { deferred } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { Kernel } from './kernel.ts';
import type { KernelNews } from './kernel-news.ts';

/** The jobs of batch kernels: begun, followed to their ends, and told of. */
export class BatchJobs {
  readonly #tasks: BackgroundTasks;
  readonly #news: KernelNews;
  readonly #logger: Logger;
  readonly #letGo = new AbortController();

  constructor({ tasks, news, logger }: { tasks: BackgroundTasks; news: KernelNews; logger: Logger }) {
    this.#tasks = tasks;
    this.#news = news;
    this.#logger = logger;
  }

  /**
   * Begins the batch job of a kernel that runs, or goes on waiting for one that was begun before. One that begins on an
   * order waits for that, and reports tell so.
   */
  follow(kernel: Kernel, { ordered = false } = {}): void {
    const { handle } = kernel;
    const { batch } = kernel.spec;
    if (!batch || !handle) return;
    kernel.batchWaits = batch.onOrder === true && !ordered && !handle.batchBegan;
    if (kernel.batchWaits) return;
    const followed = deferred();
    kernel.job = followed.promise;
    const follow = async (): Promise<void> => {
      try {
        const end = await handle.runBatch(batch, this.#letGo.signal);
        if (end) this.ended(kernel, end);
      } finally {
        followed.resolve();
      }
    };
    this.#tasks.start('follow batch job', follow, kernel.requestId);
  }

  ended(kernel: Kernel, end: BatchEnd): void {
    kernel.batch = end;
    this.#news.tell(kernel, { type: 'batch-finished', ...end });
    this.#logger.info('batch job finished', { kernel_id: kernel.spec.kernelId, ...end });
  }

  /** They go on by themselves, and are followed no more. */
  letGo(): void {
    this.#letGo.abort();
  }
}
