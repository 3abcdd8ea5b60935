/**
 * The best of many agents for one shape of request, kept up to date: a tournament whose leaves are the agents of a group.
 * After a placement only the paths of changed agents are played again, so that a decision among thousands of agents costs
 * as much as there were changes since the last one of the same shape.
 */
export class Tournament {
  readonly #size: number;
  /** The winner below each node, or −1; leaves stand in the second half. */
  readonly #winners: Int32Array;
  readonly #agents: Int32Array;
  readonly #eligible: (agent: number) => boolean;
  readonly #prefers: (agent: number, other: number) => boolean;
  /** Entries of the log of changes that it knows. */
  #read = 0;
  #count = 0;

  constructor(
    agents: Int32Array,
    eligible: (agent: number) => boolean,
    prefers: (agent: number, other: number) => boolean,
  ) {
    this.#size = 2 ** Math.ceil(Math.log2(Math.max(1, agents.length)));
    this.#winners = new Int32Array(2 * this.#size).fill(-1);
    this.#agents = agents;
    this.#eligible = eligible;
    this.#prefers = prefers;
  }

  /**
   * @param changes All agents that ever changed, in order.
   * @param positionOf Where an agent stands in the group, or −1.
   */
  best(changes: readonly number[], positionOf: Int32Array): { agent: number; candidates: number } | undefined {
    if (this.#read === 0 || changes.length - this.#read > this.#agents.length >> 2) this.#playAll();
    else {
      for (let i = this.#read - 1; i < changes.length; i++) {
        const position = positionOf[changes[i]!]!;
        if (position >= 0) this.#play(position);
      }
    }
    // One more than was read, so that zero means "never".
    this.#read = changes.length + 1;
    const winner = this.#winners[1]!;
    return winner < 0 ? undefined : { agent: winner, candidates: this.#count };
  }

  #playAll(): void {
    this.#count = 0;
    for (let position = 0; position < this.#agents.length; position++) {
      const agent = this.#agents[position]!;
      const is = this.#eligible(agent);
      this.#winners[this.#size + position] = is ? agent : -1;
      if (is) this.#count += 1;
    }
    for (let node = this.#size - 1; node >= 1; node--) this.#match(node);
  }

  #play(position: number): void {
    const leaf = this.#size + position;
    const agent = this.#agents[position]!;
    const was = this.#winners[leaf]! >= 0;
    const is = this.#eligible(agent);
    if (was !== is) this.#count += is ? 1 : -1;
    else if (!is) return;
    this.#winners[leaf] = is ? agent : -1;
    for (let node = leaf >> 1; node >= 1; node >>= 1) {
      const before = this.#winners[node];
      this.#match(node);
      // Another one won before and wins still: nothing changes above.
      if (this.#winners[node] === before && before !== agent) return;
    }
  }

  #match(node: number): void {
    const left = this.#winners[2 * node]!;
    const right = this.#winners[2 * node + 1]!;
    this.#winners[node] = left < 0 ? right : right < 0 || this.#prefers(left, right) ? left : right;
  }
}
