import type { BatchEnd, KernelEvent } from '@backend.ai/contract';
import {
  type KernelStatus,
  kernelSourcesOf,
  type StatusReason,
  startingStatuses,
  statusReasons,
} from '@backend.ai/core';
import type {
  ChangedSession,
  EventGuard,
  KernelTransitionOptions,
  SessionTransitions,
} from '../../repositories/session-transitions.ts';

/** What is known about a change at an agent, from an event or a heartbeat. */
export interface Fact {
  readonly agentId: string;
  readonly kernelId: string;
  readonly requestId: string;
  /** Number of the event; absent when the fact comes from a heartbeat. */
  readonly seq?: number;
}

/** The way of a start, in order. */
const stepsOfStart: readonly KernelStatus[] = ['PREPARING', 'CREATING', 'RUNNING'];

/**
 * Turns facts from agents into changes of state. Each function is harmless when its fact comes twice, late, or about a
 * kernel that went elsewhere. What an event changes is stored together with its number; an event that changes nothing
 * is left to the caller to count.
 */
export class KernelFacts {
  readonly #transitions: SessionTransitions;

  constructor(transitions: SessionTransitions) {
    this.#transitions = transitions;
  }

  async apply(agentId: string, event: KernelEvent): Promise<ChangedSession[]> {
    const fact: Fact = { agentId, kernelId: event.kernelId, requestId: event.requestId, seq: event.seq };
    switch (event.type) {
      case 'kernel-preparing':
        // The kernel was PREPARING before the agent was asked.
        return [];
      case 'kernel-pulling':
        return await this.#move(fact, { to: 'PULLING', reason: 'progress' });
      case 'kernel-creating':
        return await this.#move(fact, { to: 'CREATING', reason: 'progress' });
      case 'kernel-started': {
        const services = event.services ? { services: event.services } : {};
        return await this.started(fact, { steps: event.steps, isolation: event.isolation, ...services });
      }
      case 'kernel-start-failed':
        return await this.ended(
          fact,
          event.error.code.startsWith('image-') ? 'image-pull-failed' : 'start-failed',
          null,
          { error: event.error, failedStep: event.failedStep },
          event.log,
        );
      case 'batch-finished':
        return await this.finished(fact, event);
      case 'kernel-terminated':
        return await this.ended(fact, event.reason, event.exitCode, {}, event.log);
    }
  }

  /** It runs; states in between whose events were lost are passed on the way. */
  async started(fact: Fact, kernelData: Record<string, unknown>): Promise<ChangedSession[]> {
    const last = { to: 'RUNNING', reason: 'started', kernelData } as const;
    const direct = await this.#move(fact, last);
    if (direct.length > 0) return direct;
    const changed: ChangedSession[] = [];
    for (const to of stepsOfStart.slice(0, -1)) {
      changed.push(...(await this.#move(fact, { to, reason: 'progress' }, false)));
    }
    return [...changed, ...(await this.#move(fact, last))];
  }

  /** The job of its batch session is over, and with it the session. */
  async finished(fact: Fact, { result, exitCode, reason }: BatchEnd): Promise<ChangedSession[]> {
    const { agentId, kernelId, requestId } = fact;
    return await this.#transitions.apply({
      target: { kernelId, agentId },
      from: ['RUNNING', 'RUNNING_DEGRADED'],
      to: 'TERMINATING',
      reason,
      result,
      data: exitCode === null ? {} : { exitCode },
      requestId,
      ...guard(fact, true),
    });
  }

  /**
   * It is gone: as wished, by itself, or before it ran.
   * @param log The end of what it wrote, kept with the kernel if that changes.
   */
  async ended(
    fact: Fact,
    reason: string,
    exitCode: number | null,
    data: Record<string, unknown> = {},
    log?: string,
  ): Promise<ChangedSession[]> {
    const known: StatusReason = reason in statusReasons ? (reason as StatusReason) : 'self-terminated';
    const failed = known === 'start-failed' || known === 'image-pull-failed';
    const facts = {
      ...data,
      ...(exitCode === null ? {} : { exitCode }),
      ...(known === reason ? {} : { detail: reason }),
    };
    const base = { reason: known, exitCode, data: facts, ...(log === undefined ? {} : { kernelData: { log } }) };
    const from: KernelStatus[] = failed ? ['TERMINATING'] : kernelSourcesOf('TERMINATED');
    const asWished = await this.#move(fact, { ...base, from, to: 'TERMINATED', keepReasonOfEnding: true });
    if (asWished.length > 0) return asWished;
    const early: KernelStatus[] = failed ? [...startingStatuses, 'RUNNING'] : [...startingStatuses];
    return await this.#move(fact, { ...base, from: early, to: 'ERROR', reason: failed ? known : startReason(known) });
  }

  /** Its agent is there without it. */
  async lost(fact: Fact): Promise<ChangedSession[]> {
    return await this.#move(fact, { from: ['CREATING', 'RUNNING'], to: 'ERROR', reason: 'kernel-lost' });
  }

  async #move(
    fact: Fact,
    change: Omit<KernelTransitionOptions, 'target' | 'requestId' | 'event'>,
    count = true,
  ): Promise<ChangedSession[]> {
    const { agentId, kernelId, requestId } = fact;
    const target = { kernelId, agentId };
    return await this.#transitions.applyToKernels({ ...change, target, requestId, ...guard(fact, count) });
  }
}

function guard({ agentId, seq }: Fact, count: boolean): { event?: EventGuard } {
  return seq === undefined ? {} : { event: { agentId, seq, count } };
}

/** Why it ended before it ran, when that is worth more than that it did. */
function startReason(reason: StatusReason): StatusReason {
  return reason === 'self-terminated' || reason === 'user-requested' ? 'start-failed' : reason;
}
