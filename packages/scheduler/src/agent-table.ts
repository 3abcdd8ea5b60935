import type { DenseSlots, SlotTable } from './slot-table.ts';
import type { AgentSnapshot } from './snapshot.ts';

/** Amount of a slot that an agent does not have at all. */
export const absent = Number.NEGATIVE_INFINITY;

/**
 * What agents have free, as columns over agents sorted by id. `take` and `giveBack` are written down, so that what was
 * tried can be undone.
 */
export class AgentTable {
  readonly agents: readonly AgentSnapshot[];
  readonly slots: SlotTable;
  readonly capacity: readonly Float64Array[];
  readonly free: readonly Float64Array[];
  /** Slots of which an agent has something free. */
  readonly freeKinds: Int32Array;
  readonly kernels: Int32Array;
  /** Agents with warm slots. */
  readonly warm = new Set<number>();
  readonly #indices: ReadonlyMap<string, number>;
  /** Agents in the order in which they were changed: a reader keeps how far it has read. */
  readonly changes: number[] = [];
  readonly #journal: Array<{ agent: number; slots: DenseSlots; kernels: number; sign: number }> = [];

  constructor(agents: Iterable<AgentSnapshot>, slots: SlotTable) {
    const sorted = [...agents].sort((a, b) => (a.id < b.id ? -1 : 1));
    this.agents = sorted;
    this.slots = slots;
    const column = (): Float64Array => new Float64Array(sorted.length).fill(absent);
    this.capacity = slots.names.map(column);
    this.free = slots.names.map(column);
    this.freeKinds = new Int32Array(sorted.length);
    this.kernels = new Int32Array(sorted.length);
    this.#indices = new Map(sorted.map((agent, index) => [agent.id, index]));
    sorted.forEach((agent, index) => {
      this.#fill(index, agent);
    });
  }

  indexOf(id: string): number | undefined {
    return this.#indices.get(id);
  }

  /** Other amounts of an agent that is in the table. */
  update(index: number, agent: AgentSnapshot): void {
    (this.agents as AgentSnapshot[])[index] = agent;
    this.#fill(index, agent);
    this.changes.push(index);
  }

  fits(agent: number, { columns, amounts }: DenseSlots): boolean {
    for (let i = 0; i < columns.length; i++) {
      if ((this.free[columns[i] as number] as Float64Array)[agent]! < amounts[i]!) return false;
    }
    return true;
  }

  /** Whether it would have room with nothing on it. */
  fitsEmpty(agent: number, { columns, amounts }: DenseSlots): boolean {
    for (let i = 0; i < columns.length; i++) {
      if ((this.capacity[columns[i] as number] as Float64Array)[agent]! < amounts[i]!) return false;
    }
    return true;
  }

  take(agent: number, slots: DenseSlots, kernels: number): void {
    this.#journal.push({ agent, slots, kernels, sign: -1 });
    this.#add(agent, slots, kernels, -1);
  }

  giveBack(agent: number, slots: DenseSlots, kernels: number): void {
    this.#journal.push({ agent, slots, kernels, sign: 1 });
    this.#add(agent, slots, kernels, 1);
  }

  /** A point to which `undo` goes back. */
  mark(): number {
    return this.#journal.length;
  }

  undo(mark: number): void {
    while (this.#journal.length > mark) {
      const entry = this.#journal.pop()!;
      this.#add(entry.agent, entry.slots, entry.kernels, -entry.sign);
    }
  }

  /** Work on the table as if nothing ran. Everything is as before afterwards. */
  withNothingHeld<T>(work: () => T): T {
    const free = this.free.map((column) => column.slice());
    const kernels = this.kernels.slice();
    const freeKinds = this.freeKinds.slice();
    const mark = this.mark();
    this.free.forEach((column, i) => {
      column.set(this.capacity[i]!);
    });
    this.kernels.fill(0);
    this.freeKinds.forEach((_, agent) => {
      this.freeKinds[agent] = this.capacity.filter((column) => column[agent]! > 0).length;
    });
    try {
      return work();
    } finally {
      this.undo(mark);
      this.free.forEach((column, i) => {
        column.set(free[i]!);
      });
      this.kernels.set(kernels);
      this.freeKinds.set(freeKinds);
    }
  }

  #add(agent: number, { columns, amounts }: DenseSlots, kernels: number, sign: number): void {
    for (let i = 0; i < columns.length; i++) {
      const free = this.free[columns[i] as number] as Float64Array;
      const before = free[agent] as number;
      const after = before + sign * (amounts[i] as number);
      free[agent] = after;
      if (before > 0 !== after > 0) this.freeKinds[agent]! += after > 0 ? 1 : -1;
    }
    this.kernels[agent]! -= sign * kernels;
    this.changes.push(agent);
  }

  #fill(index: number, agent: AgentSnapshot): void {
    let freeKinds = 0;
    this.slots.names.forEach((name, column) => {
      const has = Object.hasOwn(agent.capacity, name);
      const capacity = has ? this.slots.offered(column, agent.capacity[name] ?? 0n) : absent;
      const held = this.#held(agent.used, name, column) + this.#held(agent.reserved ?? {}, name, column);
      this.capacity[column]![index] = capacity;
      this.free[column]![index] = capacity - held;
      if (capacity > held) freeKinds += 1;
    });
    this.freeKinds[index] = freeKinds;
    this.kernels[index] = agent.kernelCount ?? 0;
    if (agent.warmSlots && agent.warmSlots.length > 0) this.warm.add(index);
    else this.warm.delete(index);
  }

  #held(slots: AgentSnapshot['used'], name: string, column: number): number {
    return Object.hasOwn(slots, name) ? this.slots.wanted(column, slots[name] ?? 0n) : 0;
  }
}
