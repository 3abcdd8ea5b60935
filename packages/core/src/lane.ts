/** Work that would meet, one piece after the other in the order of the calls. */
export class Lane {
  #last: Promise<unknown> = Promise.resolve();

  /** Settles as `work` does, which begins when all before it has ended, well or not; never before this has returned. */
  follow<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }
}

/** A lane for each key; nothing is kept of keys without work. */
export class Lanes<Key> {
  readonly #busy = new Map<Key, { readonly lane: Lane; pieces: number }>();

  /** How many keys have work. */
  get size(): number {
    return this.#busy.size;
  }

  /** As `Lane.follow`: after all that was asked for by this key before. */
  async follow<T>(key: Key, work: () => Promise<T>): Promise<T> {
    const entry = this.#busy.get(key) ?? { lane: new Lane(), pieces: 0 };
    this.#busy.set(key, entry);
    entry.pieces += 1;
    try {
      return await entry.lane.follow(work);
    } finally {
      entry.pieces -= 1;
      if (entry.pieces === 0) this.#busy.delete(key);
    }
  }
}
