import { slotsFromTexts } from '@backend.ai/core';
import { type AgentSnapshot, imageKey } from '@backend.ai/scheduler';
import type { AgentRecord } from '../../repositories/agents.ts';

/** An agent as the scheduler sees it. */
export function toAgentSnapshot(agent: AgentRecord): AgentSnapshot {
  return {
    id: agent.id,
    status: agent.status,
    schedulable: agent.schedulable,
    resourceGroup: agent.resourceGroup,
    architecture: agent.architecture,
    images: agent.images.map((image) => imageKey(image.name, image.architecture)),
    ...(agent.backend === 'docker' ? { fetchesImages: true } : {}),
    ...(agent.isolation.egress === 'enforced' ? { enforcesEgress: true } : {}),
    capacity: slotsFromTexts(agent.capacity),
    used: slotsFromTexts(agent.used),
    ...(Object.keys(agent.reserved).length === 0 ? {} : { reserved: slotsFromTexts(agent.reserved) }),
  };
}
