import { setMaxListeners } from 'node:events';
import type { WarmSlotSpec } from '@backend.ai/contract';
import { hasCode } from '@backend.ai/core';
import { type BackgroundTasks, type Logger, requireRequestId } from '@backend.ai/telemetry';
import type { AgentClients } from '../clients/agent-clients.ts';

export interface WarmSlotTellerOptions {
  readonly clients: Pick<AgentClients, 'call'>;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
  /** An agent answers an order within this time, or is told again. */
  readonly orderDeadlineMs: number;
}

/** What one agent is told. */
export interface WarmSlotTelling {
  readonly agentId: string;
  /** Of the life of the agent. */
  readonly bootId: string | null;
  /** All that there are to be. */
  readonly slots: WarmSlotSpec[];
  /** Kernels whose orders are under way there, read after the slots. */
  readonly claimed: string[];
  readonly epoch: number;
}

/** Agents that are told at the same time, and how many of them may have let their time pass the last time. */
const atOnce = 16;
const slowAtOnce = 8;

/**
 * Tells agents their slots in the background: those that hang hold up no others, and hear what is newest when it comes
 * to them.
 */
export class WarmSlotTeller {
  readonly #options: WarmSlotTellerOptions;
  /** By agent. */
  readonly #waiting = new Map<string, WarmSlotTelling & { readonly requestId: ReturnType<typeof requireRequestId> }>();
  readonly #hearing = new Set<string>();
  /** Agents that did not answer in time when they were told last. */
  readonly #slow = new Set<string>();
  readonly #stopped = new AbortController();
  /**
   * Agents that were told in this term to keep none, each with the life in which it was told: after another start it may
   * have found one that was still being removed.
   */
  readonly #bare = new Map<string, string | null>();

  constructor(options: WarmSlotTellerOptions) {
    this.#options = options;
    // Each of the calls listens; from eleven on Node.js would take that for a leak.
    setMaxListeners(atOnce, this.#stopped.signal);
  }

  /** Whether it has nothing to hear, as it is to keep none and knows. */
  isBare(agentId: string, bootId: string | null): boolean {
    return this.#bare.has(agentId) && this.#bare.get(agentId) === bootId;
  }

  /** Agents that are not there any more are forgotten. */
  forgetOthers(known: ReadonlySet<string>): void {
    for (const ids of [this.#bare, this.#slow]) for (const id of ids.keys()) if (!known.has(id)) ids.delete(id);
  }

  tell(telling: WarmSlotTelling): void {
    this.#bare.delete(telling.agentId);
    this.#waiting.set(telling.agentId, { ...telling, requestId: requireRequestId() });
    this.#next();
  }

  /** For good. */
  stop(): void {
    this.#waiting.clear();
    this.#stopped.abort();
  }

  #next(): void {
    for (const [agentId, telling] of this.#waiting) {
      if (this.#hearing.size >= atOnce) return;
      if (this.#hearing.has(agentId) || (this.#slow.has(agentId) && this.#slowHearing >= slowAtOnce)) continue;
      this.#waiting.delete(agentId);
      this.#hearing.add(agentId);
      this.#options.tasks.start('tell warm slots', () => this.#call(telling), telling.requestId);
    }
  }

  get #slowHearing(): number {
    return [...this.#hearing].filter((agentId) => this.#slow.has(agentId)).length;
  }

  async #call({ agentId, bootId, slots, claimed, epoch }: WarmSlotTelling): Promise<void> {
    const { clients, orderDeadlineMs: deadlineMs, logger } = this.#options;
    const { signal } = this.#stopped;
    const input = { slots, ...(claimed.length > 0 ? { claimed } : {}) };
    try {
      await clients.call(agentId, (api) => api.keepWarmSlots.mutate(input, { signal, context: { deadlineMs, epoch } }));
      this.#slow.delete(agentId);
      if (slots.length + claimed.length === 0 && !this.#waiting.has(agentId)) this.#bare.set(agentId, bootId);
    } catch (error) {
      if (hasCode(error, 'deadline-exceeded')) this.#slow.add(agentId);
      else this.#slow.delete(agentId);
      // Whoever leads now takes care of it.
      if (!signal.aborted && !hasCode(error, 'stale-epoch')) {
        logger.warn('agent could not be told its warm slots', { agent: agentId, error });
      }
    } finally {
      this.#hearing.delete(agentId);
      this.#next();
    }
  }
}
