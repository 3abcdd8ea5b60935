import { type ResourceSlots, slotsFromTexts } from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';

const capacities = new WeakMap<AgentRecord, ResourceSlots>();

/** What an agent has in all, read once per record: each new session is held against the capacity of every agent. */
export function capacityOf(agent: AgentRecord): ResourceSlots {
  let capacity = capacities.get(agent);
  if (!capacity) {
    capacity = slotsFromTexts(agent.capacity);
    capacities.set(agent, capacity);
  }
  return capacity;
}
