import type { Duplex } from './duplex.ts';

/** Above this many waiting bytes a side stops producing; it goes on when they have fallen to half. */
export const highWaterBytes = 1024 * 1024;
const maxBatchBytes = 256 * 1024;

/** Frames of one turn, sent together when the turn ends: no timer, no frame waits for another. */
export class Outbox {
  readonly #duplex: Duplex;
  #frames: string[] = [];
  #bytes = 0;
  #drained: Array<() => void> = [];

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
  }

  push(frame: string): void {
    // A tick callback runs after all promise continuations of this turn: what they push goes along.
    if (this.#frames.length === 0) process.nextTick(this.flush);
    this.#frames.push(frame);
    this.#bytes += frame.length;
  }

  readonly flush = (): void => {
    const frames = this.#frames;
    if (frames.length === 0) return;
    this.#frames = [];
    if (this.#bytes <= maxBatchBytes) this.#duplex.send(frames.length === 1 ? frames[0]! : frames.join('\n'));
    else this.#sendInParts(frames);
    this.#bytes = 0;
    if (this.#drained.length > 0) setImmediate(() => this.onDrain());
  };

  #sendInParts(frames: string[]): void {
    let part: string[] = [];
    let bytes = 0;
    for (const frame of frames) {
      if (part.length > 0 && bytes + frame.length > maxBatchBytes) {
        this.#duplex.send(part.join('\n'));
        part = [];
        bytes = 0;
      }
      part.push(frame);
      bytes += frame.length;
    }
    this.#duplex.send(part.join('\n'));
  }

  get waitingBytes(): number {
    return this.#bytes + this.#duplex.bufferedAmount;
  }

  get isFull(): boolean {
    return this.waitingBytes > highWaterBytes;
  }

  get isLow(): boolean {
    return this.waitingBytes <= highWaterBytes / 2;
  }

  /** Resolves when the other end has caught up, or the connection has ended. */
  untilLow(): Promise<void> {
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  onDrain(): void {
    if (this.#drained.length > 0 && this.isLow) this.releaseWaiters();
  }

  releaseWaiters(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}
