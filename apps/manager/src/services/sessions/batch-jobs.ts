import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { AgentClients } from '../../clients/agent-clients.ts';
import { BusinessLog } from '../../events.ts';
import type { KernelRepository } from '../../repositories/kernels.ts';

export interface BatchJobsOptions {
  readonly kernels: KernelRepository;
  readonly clients: AgentClients;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
  /** Milliseconds in which an agent answers an order. */
  readonly orderDeadlineMs: number;
}

/**
 * Has the batch job of a session of several kernels begun once all of them run. Heartbeats tell which jobs wait until the
 * order has arrived, so that one that is lost comes again; the agent begins a job once.
 */
export class BatchJobs {
  readonly #options: BatchJobsOptions;
  readonly #log: BusinessLog;
  /** Being ordered by this process. */
  readonly #underWay = new Set<string>();

  constructor(options: BatchJobsOptions) {
    this.#options = options;
    this.#log = new BusinessLog(options.logger);
  }

  /** In the background. Nothing happens while not all kernels of the session run. */
  begin(target: { readonly sessionId: string } | { readonly kernelId: string }): void {
    this.#options.tasks.start('begin batch job', async () => {
      const kernel = await this.#options.kernels.batchToBegin(target);
      if (kernel && !this.#underWay.has(kernel.kernelId)) await this.#order(kernel.kernelId, kernel.agentId);
    });
  }

  async #order(kernelId: string, agentId: string): Promise<void> {
    const { clients, orderDeadlineMs: deadlineMs } = this.#options;
    this.#underWay.add(kernelId);
    try {
      await clients.call(agentId, (api) => api.beginBatch.mutate({ kernelId }, { context: { deadlineMs } }));
    } catch (error) {
      this.#log.batchNotBegun(kernelId, agentId, error);
    } finally {
      this.#underWay.delete(kernelId);
    }
  }
}
