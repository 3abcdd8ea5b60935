import type { PullProgress } from '@backend.ai/contract';
import type { AgentClients } from '../../clients/agent-clients.ts';
import type { SessionRecord } from '../../repositories/session-rows.ts';

/** Who watches waits for the answers. */
const askDeadlineMs = 1_000;
/** Of a session of hundreds of kernels some tell enough. */
const maxAgents = 8;

/**
 * How far the fetches of a session are. Agents are asked while somebody watches, and only then: bytes are nothing that
 * anybody needs to know afterwards. Null: it fetches nothing, or nobody can tell.
 */
export async function pullProgressOf(
  clients: Pick<AgentClients, 'call'>,
  { image, kernels }: Pick<SessionRecord, 'image' | 'kernels'>,
): Promise<PullProgress | null> {
  const pulling = kernels.flatMap(({ status, agentId }) => (status === 'PULLING' && agentId !== null ? [agentId] : []));
  const agents = [...new Set(pulling)].slice(0, maxAgents);
  const states = await Promise.allSettled(
    agents.map((agentId) =>
      clients.call(agentId, (api) => api.checkImage.query({ image }, { context: { deadlineMs: askDeadlineMs } })),
    ),
  );
  const told = states.flatMap((state) =>
    state.status === 'fulfilled' && state.value.progress ? [state.value.progress] : [],
  );
  if (told.length === 0) return null;
  return {
    currentBytes: told.reduce((sum, { currentBytes }) => sum + currentBytes, 0),
    totalBytes: told.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
  };
}
