import type { AgentTable } from './agent-table.ts';
import type { Waiting } from './cluster.ts';
import type { Choice, Gate, Placing } from './placing.ts';
import type { Shape } from './shape.ts';
import type { DenseSlots } from './slot-table.ts';

interface Slot {
  readonly agent: number;
  readonly slotId: string;
  readonly holds: DenseSlots;
}

/**
 * Warm slots in one pass. Who suits one takes it; whoever does not is kept from the room that slots hold while there is
 * room elsewhere. As the table does not count them, nothing else in the scheduler has to know of them.
 */
export class WarmSlotsOfPass implements Gate {
  readonly #table: AgentTable;
  /** Those that can be taken, by key, in order of agents and ids. */
  readonly #ready = new Map<string, Slot[]>();
  /** What they hold, by agent and column. */
  readonly #held = new Map<number, Float64Array>();

  constructor(table: AgentTable) {
    this.#table = table;
    for (const agent of [...table.warm].sort((a, b) => a - b)) {
      const slots = [...(table.agents[agent]!.warmSlots ?? [])].sort((a, b) => (a.slotId < b.slotId ? -1 : 1));
      for (const { slotId, key, slots: amounts, ready } of slots) {
        const slot = { agent, slotId, holds: table.slots.dense([amounts]) };
        this.#hold(slot, 1);
        if (!ready) continue;
        const others = this.#ready.get(key);
        if (others) others.push(slot);
        else this.#ready.set(key, [slot]);
      }
    }
  }

  /** In a slot, or beside all of them; undefined: neither is possible, no slot is in its way, or it prefers some agents. */
  place(waiting: Waiting, placing: Placing): Choice[] | undefined {
    const taken = this.#take(waiting, placing);
    if (taken) return taken;
    // Its files may be where slots hold the room.
    if (waiting.preferred) return undefined;
    if (!waiting.shapes.some(({ kind }) => [...this.#held.keys()].some((agent) => kind.positions[agent]! >= 0))) {
      return undefined;
    }
    const beside = placing.place(waiting, this);
    return 'failed' in beside ? undefined : beside;
  }

  allows(agent: number, { slots: { columns, amounts } }: { readonly slots: DenseSlots }): boolean {
    const held = this.#held.get(agent);
    if (!held) return true;
    for (let i = 0; i < columns.length; i++) {
      const column = columns[i]!;
      if (this.#table.free[column]![agent]! - held[column]! < amounts[i]!) return false;
    }
    return true;
  }

  took(): void {}

  settle(): void {}

  /** Of the agents with a slot for it the one that its group prefers. */
  #take(waiting: Waiting, placing: Placing): Choice[] | undefined {
    const { session, shapes, group } = waiting;
    const [shape, ...others] = shapes as [Shape, ...Shape[]];
    const ready = session.warmKey === undefined ? undefined : this.#ready.get(session.warmKey);
    if (!ready || others.length > 0 || session.kernels.length > 1) return undefined;
    const suitable = ready.filter(
      ({ agent }) =>
        shape.kind.positions[agent]! >= 0 &&
        placing.hasRoom(waiting, agent, shape) &&
        placing.rank(waiting, agent).every((rank) => rank === 0),
    );
    const [first, ...rest] = suitable;
    if (!first) return undefined;
    const best = rest.reduce((chosen, slot) => (group.prefers(slot.agent, chosen.agent) ? slot : chosen), first);
    const candidates = new Set(suitable.map(({ agent }) => agent)).size;
    const decision = { ...placing.decide(waiting, shape, best.agent, { candidates }), warmSlot: best.slotId };
    ready.splice(ready.indexOf(best), 1);
    this.#hold(best, -1);
    this.#table.take(best.agent, shape.slots, shape.kernels);
    return [{ agent: best.agent, shape, decision }];
  }

  #hold({ agent, holds: { columns, amounts } }: Slot, sign: 1 | -1): void {
    const held = this.#held.get(agent) ?? new Float64Array(this.#table.slots.names.length);
    this.#held.set(agent, held);
    for (let i = 0; i < columns.length; i++) held[columns[i]!]! += sign * amounts[i]!;
  }
}
