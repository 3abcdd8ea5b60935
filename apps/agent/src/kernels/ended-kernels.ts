import type { EndedKernel } from './kernel.ts';

export interface EndedKernelLimits {
  readonly kernels: number;
  /** Of last words, all kernels together. */
  readonly bytes: number;
}

interface Kept {
  readonly kernel: EndedKernel;
  readonly bytes: number;
}

/** Ended kernels, for a while: that they ended, and what readers of their unfinished runs would still get. */
export class EndedKernels {
  readonly #limits: EndedKernelLimits;
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  constructor(limits: EndedKernelLimits = { kernels: 1_000, bytes: 64 * 1024 * 1024 }) {
    this.#limits = limits;
  }

  get(kernelId: string): EndedKernel | undefined {
    return this.#kept.get(kernelId)?.kernel;
  }

  /** When there are too many the oldest is forgotten; when they have too much to say, the oldest words are. */
  add(kernel: EndedKernel): void {
    const { kernelId } = kernel;
    this.#forget(kernelId);
    const bytes = sizeOf(kernel);
    this.#kept.set(kernelId, { kernel, bytes });
    this.#bytes += bytes;
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > this.#limits.kernels && oldest !== undefined) this.#forget(oldest);
    for (const [id, kept] of this.#kept) {
      if (this.#bytes <= this.#limits.bytes) break;
      this.#bytes -= kept.bytes;
      this.#kept.set(id, { kernel: { ...kept.kernel, lastWords: new Map(), console: undefined }, bytes: 0 });
    }
  }

  #forget(kernelId: string): void {
    this.#bytes -= this.#kept.get(kernelId)?.bytes ?? 0;
    this.#kept.delete(kernelId);
  }
}

function sizeOf({ lastWords, console }: EndedKernel): number {
  let bytes = console?.packed.length ?? 0;
  for (const result of lastWords.values()) {
    for (const item of result.console) for (const text of item.flat()) bytes += Buffer.byteLength(text);
  }
  return bytes;
}
