import type { Waiting } from './cluster.ts';
import type { WaitingReason } from './plan.ts';

/**
 * Why sessions wait, by session, in the order in which that was decided.
 *
 * Nearly all of a long queue is told in every pass that it still waits, and nobody asks for one of them: what is decided is
 * written down in two lists, and the map is made when somebody looks something up. `forEach` does without it.
 */
export class Reasons implements ReadonlyMap<string, WaitingReason> {
  readonly #sessions: string[] = [];
  readonly #reasons: WaitingReason[] = [];
  /** Places in the lists of those that were told another code before, or none. */
  readonly #news: number[] = [];
  #map: ReadonlyMap<string, WaitingReason> | undefined;
  /** When the first of them is over that ends by itself; Infinity: none does. */
  wakeAt = Number.POSITIVE_INFINITY;

  /** @param waiting One that has no reason yet. */
  add({ session, told }: Waiting, reason: WaitingReason): void {
    if (told !== reason.code) this.#news.push(this.#sessions.length);
    if (reason.code === 'agent-refused') this.wakeAt = Math.min(this.wakeAt, Date.parse(reason.data.nextTryAt));
    else if (reason.code === 'starts-later') this.wakeAt = Math.min(this.wakeAt, Date.parse(reason.data.startsAt));
    this.#sessions.push(session.sessionId);
    this.#reasons.push(reason);
    this.#map = undefined;
  }

  /** What those are to be told who do not know it yet. Of a long queue that is nearly nothing. */
  get news(): Array<{ sessionId: string } & WaitingReason> {
    return this.#news.map((index) => ({ sessionId: this.#sessions[index]!, ...this.#reasons[index]! }));
  }

  get size(): number {
    return this.#sessions.length;
  }

  forEach(each: (reason: WaitingReason, sessionId: string, reasons: Reasons) => void): void {
    for (let i = 0; i < this.#sessions.length; i++) each(this.#reasons[i]!, this.#sessions[i]!, this);
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
    this.#map ??= new Map(this.#sessions.map((sessionId, i) => [sessionId, this.#reasons[i]!]));
    return this.#map;
  }
}
