import { Lane } from '@backend.ai/core';
import { isOutage } from '@backend.ai/database';

export interface GatheredOptions<Item, Outcome> {
  /** One statement for all of them. Outcomes stand where their items do; undefined: nothing came of it. */
  readonly work: (items: readonly Item[]) => Promise<ReadonlyArray<Outcome | undefined>>;
  /** Items of one statement at most. */
  readonly most: number;
  /** Its own unless given: that of others whose statements would meet at the same rows. */
  readonly lane?: Lane;
}

/**
 * Answers calls that arrive while a statement is under way with one statement after it, so that a statement costs less
 * the more there is to do, and nothing waits when there is little.
 *
 * Being together is a matter of speed alone: an item of which nothing came, or that was in a statement that failed, has a
 * statement of its own before its caller hears of it. So a statement for many may leave out what it cannot decide, and no
 * item fails because of another one.
 */
export class Gathered<Item, Outcome> {
  readonly #options: GatheredOptions<Item, Outcome>;
  readonly #lane: Lane;
  #open: { readonly items: Item[]; readonly outcomes: Promise<ReadonlyArray<Outcome | undefined>> } | undefined;

  constructor(options: GatheredOptions<Item, Outcome>) {
    this.#options = options;
    this.#lane = options.lane ?? new Lane();
  }

  async add(item: Item): Promise<Outcome | undefined> {
    const batch = this.#join();
    const nth = batch.items.push(item) - 1;
    try {
      const outcome = (await batch.outcomes)[nth];
      if (outcome !== undefined || batch.items.length === 1) return outcome;
    } catch (error) {
      if (batch.items.length === 1 || isOutage(error)) throw error;
    }
    const [alone] = await this.#lane.follow(() => this.#options.work([item]));
    return alone;
  }

  #join() {
    if (this.#open && this.#open.items.length < this.#options.most) return this.#open;
    const items: Item[] = [];
    const outcomes = this.#lane.follow(() => {
      if (this.#open === batch) this.#open = undefined;
      return this.#options.work(items);
    });
    const batch = { items, outcomes };
    this.#open = batch;
    return batch;
  }
}
