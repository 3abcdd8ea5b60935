import type { Waiting } from './cluster.ts';
import type { WaitingReason } from './plan.ts';

/**
 * Why sessions wait, by session, in the order in which that was decided.
 *
 * Nearly all of a long queue is told in every pass that it still waits, and nobody asks for one of them: what is decided is
 * written down in a list, in which many share one reason, and the map is made when somebody looks something up. `forEach`
 * does without it.
 */
export class Reasons implements ReadonlyMap<string, WaitingReason> {
  readonly #all: Waiting[] = [];
  /** Each for those in the list from `from` to the next one. */
  readonly #reasons: Array<{ readonly from: number; readonly reason: WaitingReason }> = [];
  #last: WaitingReason | undefined;
  readonly #news: Array<{ readonly waiting: Waiting; readonly reason: WaitingReason }> = [];
  #map: ReadonlyMap<string, WaitingReason> | undefined;
  /** When the first of them is over that ends by itself; Infinity: none does. */
  wakeAt = Number.POSITIVE_INFINITY;

  /** @param waiting One that has no reason yet. */
  add(waiting: Waiting, reason: WaitingReason): void {
    if (reason !== this.#last) this.#begin(reason);
    if (waiting.told !== reason.code) this.#news.push({ waiting, reason });
    this.#all.push(waiting);
    this.#map = undefined;
  }

  #begin(reason: WaitingReason): void {
    if (reason.code === 'agent-refused') this.wakeAt = Math.min(this.wakeAt, Date.parse(reason.data.nextTryAt));
    else if (reason.code === 'starts-later') this.wakeAt = Math.min(this.wakeAt, Date.parse(reason.data.startsAt));
    this.#reasons.push({ from: this.#all.length, reason });
    this.#last = reason;
  }

  /** What those are to be told who do not know it yet. Of a long queue that is nearly nothing. */
  get news(): Array<{ sessionId: string } & WaitingReason> {
    return this.#news.map(({ waiting, reason }) => ({ sessionId: waiting.session.sessionId, ...reason }));
  }

  get size(): number {
    return this.#all.length;
  }

  forEach(each: (reason: WaitingReason, sessionId: string, reasons: Reasons) => void): void {
    this.#reasons.forEach(({ from, reason }, index) => {
      const end = this.#reasons[index + 1]?.from ?? this.#all.length;
      for (let i = from; i < end; i++) each(reason, this.#all[i]!.session.sessionId, this);
    });
  }

  get(sessionId: string): WaitingReason | undefined {
    return this.#made.get(sessionId);
  }

  has(sessionId: string): boolean {
    return this.#made.has(sessionId);
  }

  entries(): MapIterator<[string, WaitingReason]> {
    return this.#made.entries();
  }

  keys(): MapIterator<string> {
    return this.#made.keys();
  }

  values(): MapIterator<WaitingReason> {
    return this.#made.values();
  }

  [Symbol.iterator](): MapIterator<[string, WaitingReason]> {
    return this.entries();
  }

  get #made(): ReadonlyMap<string, WaitingReason> {
    if (!this.#map) {
      const made = new Map<string, WaitingReason>();
      this.forEach((reason, sessionId) => void made.set(sessionId, reason));
      this.#map = made;
    }
    return this.#map;
  }
}
