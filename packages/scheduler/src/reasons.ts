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
  #map: ReadonlyMap<string, WaitingReason> | undefined;

  /** @param sessionId One that has no reason yet. */
  add(sessionId: string, reason: WaitingReason): void {
    this.#sessions.push(sessionId);
    this.#reasons.push(reason);
    this.#map = undefined;
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
