import { type Metrics, metricsSchema } from '@backend.ai/contract';
import type { LiveValues } from '@backend.ai/coordination';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';

export interface MachineStatisticsOptions {
  readonly liveValues: LiveValues;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
}

/** Of a machine whose agent is silent nothing is known. */
const expiryMs = 60_000;

/**
 * What whole machines use, as their agents tell it: the newest of each, in live values, so that every manager knows it.
 * Heartbeats neither wait for it nor fail with it.
 */
export class MachineStatistics {
  readonly #options: MachineStatisticsOptions;
  readonly #underWay = new Set<string>();
  /** The live values cannot be written: told once. */
  #failing = false;

  constructor(options: MachineStatisticsOptions) {
    this.#options = options;
  }

  record(agentId: string, metrics: Metrics): void {
    const { liveValues, tasks, logger } = this.#options;
    // The next heartbeat tells the newest again.
    if (Object.keys(metrics).length === 0 || this.#underWay.has(agentId)) return;
    this.#underWay.add(agentId);
    tasks.start('keep statistics of a machine', async () => {
      try {
        await liveValues.set(keyOf(agentId), JSON.stringify(metrics), expiryMs);
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) logger.warn('statistics of machines cannot be kept', { agent: agentId, error });
        this.#failing = true;
      } finally {
        this.#underWay.delete(agentId);
      }
    });
  }

  /** Null: nobody has told lately. */
  async find(agentId: string): Promise<Metrics | null> {
    const text = await this.#options.liveValues.get(keyOf(agentId));
    if (text === null) return null;
    try {
      return metricsSchema.parse(JSON.parse(text));
    } catch (error) {
      this.#options.logger.warn('statistics of a machine cannot be read', { agent: agentId, error });
      return null;
    }
  }
}

function keyOf(agentId: string): string {
  return `agent:${agentId}:statistics`;
}
