import { type Clock, startingStatuses } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { BusinessLog } from '../events.ts';
import type { AgentRepository } from '../repositories/agents.ts';
import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';

export interface WatchAgentsOptions {
  readonly agents: AgentRepository;
  readonly directory: AgentDirectory;
  readonly transitions: SessionTransitions;
  readonly changes: SessionChanges;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly lostAfterMs: number;
  readonly graceMs: number;
}

/**
 * An agent not heard of is LOST: what was being started there, or held a place, starts elsewhere (should the agent come
 * back with it, a heartbeat tells it to end that one). What ran there is left alone for a generous time, because
 * unreachable is not dead, and then given up.
 */
export class WatchAgents {
  readonly #options: WatchAgentsOptions;
  readonly #log: BusinessLog;
  readonly #since: number;

  constructor(options: WatchAgentsOptions) {
    this.#options = options;
    this.#log = new BusinessLog(options.logger);
    this.#since = options.clock.monotonic();
  }

  async run(epoch: number): Promise<void> {
    const { agents, directory, transitions, changes, clock, lostAfterMs, graceMs } = this.#options;
    // Agents could not be heard while nobody listened: after a restart they get their time.
    if (clock.monotonic() - this.#since < lostAfterMs) return;
    for (const agentId of await agents.markLost(lostAfterMs, epoch)) {
      this.#log.agentLost(agentId);
      directory.announce(agentId);
    }
    const lost = { reason: 'agent-lost', epoch } as const;
    changes.announce(
      await transitions.apply({
        ...lost,
        target: { agentLostForMs: 0 },
        from: ['RESERVED', ...startingStatuses],
        to: 'PENDING',
      }),
    );
    changes.announce(
      await transitions.applyToKernels({
        ...lost,
        target: { agentLostForMs: graceMs },
        from: ['RUNNING', 'TERMINATING'],
        to: 'ERROR',
      }),
    );
  }
}
