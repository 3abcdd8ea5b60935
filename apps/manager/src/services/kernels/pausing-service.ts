import type { SessionView, UserActor } from '@backend.ai/contract';
import { AppError, hasCode } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { AgentClients } from '../../clients/agent-clients.ts';
import type { BelievedKernel } from '../../repositories/agents.ts';
import type { SessionRepository } from '../../repositories/sessions.ts';
import type { SessionService } from '../sessions/session-service.ts';

export interface PausingOptions {
  readonly sessions: SessionService;
  readonly rows: SessionRepository;
  readonly clients: AgentClients;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
}

/**
 * Sessions whose programs stand still. That they are to is a wish, which is written down first: agents are told at once,
 * and again when a heartbeat shows otherwise. The states of the session stay what they are: it runs, it holds its resources,
 * it may be ended or started anew as any other.
 */
export class PausingService {
  readonly #options: PausingOptions;
  /** Kernels that are being told. */
  readonly #telling = new Set<string>();

  constructor(options: PausingOptions) {
    this.#options = options;
  }

  /** @throws AppError `session-not-running`, `unsupported-feature` */
  pause(ref: string, actor: UserActor): Promise<SessionView> {
    return this.#change(ref, true, actor);
  }

  /** @throws AppError `session-not-running` */
  resume(ref: string, actor: UserActor): Promise<SessionView> {
    return this.#change(ref, false, actor);
  }

  /** What an agent has told of kernels is not what is wished. */
  correct(agentId: string, kernels: readonly BelievedKernel[]): void {
    const { rows, logger, tasks } = this.#options;
    for (const { kernelId, sessionId, paused } of kernels) {
      if (this.#telling.has(kernelId)) continue;
      this.#telling.add(kernelId);
      tasks.start('pause kernel', async () => {
        try {
          await this.#tell(agentId, kernelId, paused);
        } catch (error) {
          // It can never come true; else the next heartbeat asks again.
          if (paused && hasCode(error, 'unsupported-feature')) await rows.takeBackPause(sessionId);
          logger.warn('kernel could not be paused or resumed', { kernel_id: kernelId, paused, error });
        } finally {
          this.#telling.delete(kernelId);
        }
      });
    }
  }

  async #change(ref: string, paused: boolean, actor: UserActor): Promise<SessionView> {
    const { sessions, rows } = this.#options;
    return await sessions.changePaused(ref, paused, actor, async (record) => {
      const kernels = record.kernels.flatMap(({ id, agentId, status }) =>
        status === 'RUNNING' && agentId !== null ? [{ id, agentId }] : [],
      );
      const told = await Promise.allSettled(kernels.map(({ id, agentId }) => this.#tell(agentId, id, paused)));
      const refused = told.find((one) => one.status === 'rejected' && hasCode(one.reason, 'unsupported-feature'));
      if (!paused || refused?.status !== 'rejected') return;
      // It can never come true: the wish is taken back, and so is what other agents have done for it.
      await rows.takeBackPause(record.id);
      await Promise.allSettled(kernels.map(({ id, agentId }) => this.#tell(agentId, id, false)));
      throw refused.reason;
    });
  }

  async #tell(agentId: string, kernelId: string, paused: boolean): Promise<void> {
    try {
      await this.#options.clients.call(agentId, (api) =>
        paused ? api.pauseKernel.mutate({ kernelId }) : api.resumeKernel.mutate({ kernelId }),
      );
    } catch (error) {
      if (!hasCode(error, 'route-not-found')) throw error;
      throw new AppError('unsupported-feature', 'The agent of this session is of a version that pauses nothing.', {
        cause: error,
      });
    }
  }
}
