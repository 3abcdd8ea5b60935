import { type ResourceSlots, slotsFromTexts } from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';

export type GroupCapacities = ReadonlyMap<string, readonly ResourceSlots[]>;

const known = new WeakMap<readonly AgentRecord[], GroupCapacities>();

/**
 * What agents have in all, by resource group, each amount once: machines are bought by the dozen. Worked out once for each
 * list of agents: every new session is held against it.
 */
export function capacitiesOf(agents: readonly AgentRecord[]): GroupCapacities {
  let capacities = known.get(agents);
  if (!capacities) {
    capacities = distinctCapacities(agents);
    known.set(agents, capacities);
  }
  return capacities;
}

function distinctCapacities(agents: readonly AgentRecord[]): GroupCapacities {
  const groups = new Map<string, Map<string, ResourceSlots>>();
  for (const { resourceGroup, capacity } of agents) {
    let capacities = groups.get(resourceGroup);
    if (!capacities) {
      capacities = new Map();
      groups.set(resourceGroup, capacities);
    }
    const key = JSON.stringify(capacity);
    if (!capacities.has(key)) capacities.set(key, slotsFromTexts(capacity));
  }
  return new Map([...groups].map(([name, capacities]) => [name, [...capacities.values()]]));
}
