import type { Logger } from '@backend.ai/telemetry';
import type { AgentClients } from '../../clients/agent-clients.ts';
import type { SessionRepository } from '../../repositories/sessions.ts';

const askMs = 1_000;

/** Keeps the end of a kernel's log while there is somebody to ask: best effort, and never in anybody's way for long. */
export class LogKeeper {
  readonly #sessions: SessionRepository;
  readonly #clients: AgentClients;
  readonly #logger: Logger;
  readonly #maxBytes: number;

  constructor(sessions: SessionRepository, clients: AgentClients, logger: Logger, maxBytes: number) {
    this.#sessions = sessions;
    this.#clients = clients;
    this.#logger = logger;
    this.#maxBytes = maxBytes;
  }

  async keep(agentId: string, kernelId: string): Promise<void> {
    if (this.#maxBytes === 0) return;
    const input = { kernelId, maxBytes: this.#maxBytes };
    try {
      const { logs } = await this.#clients.call(agentId, (api) =>
        api.logs.query(input, { context: { deadlineMs: askMs } }),
      );
      // PostgreSQL's texts cannot hold NUL.
      await this.#sessions.keepLog(kernelId, logs.replaceAll('\0', '\ufffd'));
    } catch (error) {
      this.#logger.debug('log of a kernel could not be kept', { kernel_id: kernelId, agent_id: agentId, error });
    }
  }
}
