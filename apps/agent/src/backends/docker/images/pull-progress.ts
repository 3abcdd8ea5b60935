import type { PullProgress } from '@backend.ai/contract';

/** One line of what an engine says while it fetches an image. */
export interface PullMessage {
  /** Of the layer. */
  readonly id?: string;
  readonly status?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
  readonly error?: string;
}

const fetched = new Set(['Download complete', 'Verifying Checksum', 'Extracting', 'Pull complete']);

/** Adds up the layers of one image. Those that are there already count for nothing. */
export class LayerBytes {
  readonly #layers = new Map<string, PullProgress>();

  add({ id, status, progressDetail }: PullMessage): void {
    if (id === undefined || status === undefined) return;
    const before = this.#layers.get(id) ?? { currentBytes: 0, totalBytes: 0 };
    if (status === 'Downloading') {
      const { current = 0, total = 0 } = progressDetail ?? {};
      const totalBytes = Math.max(total, before.totalBytes, current);
      this.#layers.set(id, { currentBytes: Math.max(current, before.currentBytes), totalBytes });
    } else if (fetched.has(status)) {
      this.#layers.set(id, { ...before, currentBytes: before.totalBytes });
    }
  }

  get total(): PullProgress {
    let [currentBytes, totalBytes] = [0, 0];
    for (const layer of this.#layers.values()) {
      currentBytes += layer.currentBytes;
      totalBytes += layer.totalBytes;
    }
    return { currentBytes, totalBytes };
  }
}
