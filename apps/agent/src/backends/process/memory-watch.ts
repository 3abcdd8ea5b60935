import type { Clock } from '@backend.ai/core';
import {
  isAlive,
  type ProcessIdentity,
  ProcessTable,
  proportionalBytes,
  residentBytes,
} from '../../resources/processes.ts';

export interface WatchedKernel {
  readonly monitor: ProcessIdentity;
  readonly limitBytes: number;
  /** Programs may leave the tree where no namespace holds them: then its processes are searched for by mark. */
  readonly mark: { readonly label: string; readonly uid: number | null } | null;
  readonly onExceeded: () => void;
}

const intervalMs = 250;

/**
 * Limits memory where no control group can: looks at the resident memory of all kernels together, four times a second
 * while there are any. A program may overshoot in between.
 */
export class MemoryWatch {
  readonly #clock: Clock;
  readonly #kernels = new Set<WatchedKernel>();
  #cancel: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The returned function stops watching. */
  add(kernel: WatchedKernel): () => void {
    this.#kernels.add(kernel);
    this.#schedule();
    return () => {
      this.#kernels.delete(kernel);
      if (this.#kernels.size === 0) this.close();
    };
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #schedule(): void {
    this.#cancel ??= this.#clock.setTimer(intervalMs, () => {
      this.#cancel = undefined;
      this.#look();
      if (this.#kernels.size > 0) this.#schedule();
    });
  }

  #look(): void {
    const table = new ProcessTable();
    for (const kernel of [...this.#kernels]) {
      const root = isAlive(kernel.monitor) ? kernel.monitor.pid : null;
      const pids = kernel.mark
        ? table.findTree({ root, ...kernel.mark })
        : table.withDescendants(root === null ? [] : [root]);
      // Pages that processes share are counted several times by the quick look: be exact before killing.
      if (residentBytes(pids) <= kernel.limitBytes || proportionalBytes(pids) <= kernel.limitBytes) continue;
      this.#kernels.delete(kernel);
      kernel.onExceeded();
    }
  }
}
