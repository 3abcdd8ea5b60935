import { type AgentTable, absent } from './agent-table.ts';
import type { SelectionStrategy } from './snapshot.ts';

/** Devices in the order in which agents are compared by what they have free; other slots follow by name. */
export const defaultSlotPriority: readonly string[] = ['cuda', 'rocm', 'tpu', 'cpu', 'mem'];

/** `cuda` stands for `cuda.device`, `cuda.shares` and the like. */
export function slotOrder(names: readonly string[], priority: readonly string[] = defaultSlotPriority): string[] {
  const rank = (name: string): number => {
    const found = priority.findIndex((device) => name === device || name.startsWith(`${device}.`));
    return found < 0 ? priority.length : found;
  };
  return [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0));
}

/**
 * Whether one agent with room is to be preferred to another, by strategy. First counts how many slots would stay unused:
 * the fewer, the better, so that work without accelerators stays away from them. Among agents with room these are the slots
 * with something free, because all that are asked for are. Then what is free of each slot in their order: little first for
 * `concentrated`, much first for `dispersed` and `legacy`; a slot that an agent lacks makes it worse. Equals go by id.
 */
export function preferredAgent(
  table: AgentTable,
  strategy: SelectionStrategy,
  columns: Int32Array,
): (agent: number, other: number) => boolean {
  const { free, freeKinds } = table;
  if (strategy === 'roundrobin') return (agent, other) => agent < other;
  const little = strategy === 'concentrated';
  return (agent, other) => {
    const kinds = freeKinds[agent]! - freeKinds[other]!;
    if (kinds !== 0) return kinds < 0;
    for (let i = 0; i < columns.length; i++) {
      const column = free[columns[i]!]!;
      const here = column[agent]!;
      const there = column[other]!;
      if (here === there) continue;
      if (here === absent) return false;
      if (there === absent) return true;
      return little ? here < there : here > there;
    }
    return agent < other;
  };
}
