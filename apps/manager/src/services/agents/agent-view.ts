import type { AgentView, Metrics } from '@backend.ai/contract';
import { findCustomizedImage } from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import { plainAmounts, toIso } from '../sessions/session-view.ts';

export function toAgentView(agent: AgentRecord, machine: Metrics | null): AgentView {
  const { id, status, resourceGroup, version, architecture, backend, isolation } = agent;
  return {
    id,
    status,
    resourceGroup,
    version,
    architecture,
    backend,
    isolation,
    capacity: plainAmounts(agent.capacity),
    used: plainAmounts(agent.used),
    warm: plainAmounts(agent.warm),
    // What users made of their sessions is no business of others.
    images: agent.images.flatMap(({ name }) => (findCustomizedImage(name) ? [] : [name])),
    firstContact: toIso(agent.firstContact),
    lastHeartbeat: toIso(agent.lastHeartbeat),
    machine,
  };
}
