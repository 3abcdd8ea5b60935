import type { BatchEnd, KernelEvent } from '@backend.ai/contract';
import {
  type ErrorCode,
  kernelSourcesOf,
  type StatusReason,
  servingStatuses,
  startingStatuses,
  statusReasons,
} from '@backend.ai/core';
import type {
  ChangedSession,
  EventGuard,
  KernelFact,
  KernelFactKind,
  SessionTransitions,
} from '../../repositories/session-transitions.ts';

/** What is known about a change at an agent, from an event or a heartbeat. */
export interface Fact {
  readonly agentId: string;
  readonly kernelId: string;
  readonly requestId: string;
  /** Absent when the fact comes from a heartbeat. */
  readonly event?: EventGuard;
}

/** What agents tell of kernels, and what becomes of them. */
const kinds = {
  pulling: { moves: 'kernels', to: 'PULLING', from: kernelSourcesOf('PULLING') },
  creating: { moves: 'kernels', to: 'CREATING', from: kernelSourcesOf('CREATING') },
  preparing: { moves: 'kernels', to: 'PREPARING', from: kernelSourcesOf('PREPARING') },
  running: {
    moves: 'kernels',
    to: 'RUNNING',
    from: kernelSourcesOf('RUNNING'),
    passes: { from: kernelSourcesOf('CREATING'), by: 'CREATING' },
  },
  finished: { moves: 'sessions', to: 'TERMINATING', from: servingStatuses },
  ended: { moves: 'kernels', to: 'TERMINATED', from: kernelSourcesOf('TERMINATED'), keepReasonOfEnding: true },
  endedAsWished: { moves: 'kernels', to: 'TERMINATED', from: ['TERMINATING'], keepReasonOfEnding: true },
  endedEarly: { moves: 'kernels', to: 'ERROR', from: startingStatuses },
  failed: { moves: 'kernels', to: 'ERROR', from: [...startingStatuses, 'RUNNING'] },
  lost: { moves: 'kernels', to: 'ERROR', from: ['CREATING', 'RUNNING'] },
} as const satisfies Record<string, KernelFactKind>;

/**
 * Turns facts from agents into changes of state. Each function is harmless when its fact comes twice, late, or about a
 * kernel that went elsewhere. What an event changes is stored together with its number where the caller wants that; an
 * event that changes nothing is left to the caller to count.
 */
export class KernelFacts {
  readonly #transitions: SessionTransitions;

  constructor(transitions: SessionTransitions) {
    this.#transitions = transitions;
  }

  /** @param count Stores the number of the event with what it changes. */
  async apply(agentId: string, event: KernelEvent, count: boolean): Promise<ChangedSession[]> {
    const { kernelId, requestId, seq } = event;
    const fact: Fact = { agentId, kernelId, requestId, event: { seq, count } };
    switch (event.type) {
      case 'kernel-preparing':
        // The kernel was PREPARING before the agent was asked.
        return [];
      case 'kernel-pulling':
        return await this.#tell('pulling', fact, { reason: 'progress' });
      case 'kernel-creating':
        return await this.#tell('creating', fact, { reason: 'progress' });
      case 'kernel-started': {
        const services = event.services ? { services: event.services } : {};
        return await this.started(fact, { steps: event.steps, isolation: event.isolation, ...services });
      }
      case 'kernel-start-failed':
        return await this.ended(
          fact,
          failureReason(event.error.code),
          null,
          { error: event.error, failedStep: event.failedStep },
          event.log === undefined ? {} : { log: event.log },
        );
      case 'batch-finished':
        return await this.finished(fact, event);
      case 'kernel-terminated':
        return await this.ended(fact, event.reason, event.exitCode, {}, keptOf(event));
    }
  }

  /** It runs; states in between whose events were lost are passed on the way. */
  async started(fact: Fact, kernelData: Record<string, unknown>): Promise<ChangedSession[]> {
    const last = { reason: 'started', kernelData } as const;
    const direct = await this.#tell('running', fact, last);
    if (direct.length > 0) return direct.flatMap(byWayOfCreating);
    const changed: ChangedSession[] = [];
    const { event, ...known } = fact;
    const early = event ? { ...known, event: { ...event, count: false } } : known;
    for (const step of ['preparing', 'creating'] as const) {
      changed.push(...(await this.#tell(step, early, { reason: 'progress' })));
    }
    return [...changed, ...(await this.#tell('running', fact, last))];
  }

  /** The job of its batch session is over, and with it the session. Its exit code stays; that of the stopped kernel says nothing. */
  async finished(fact: Fact, { result, exitCode, reason, diskFull }: BatchEnd): Promise<ChangedSession[]> {
    return await this.#tell('finished', fact, {
      reason: diskFull ? 'disk-full' : reason,
      result,
      exitCode,
      data: exitCode === null ? {} : { exitCode },
    });
  }

  /**
   * It is gone: as wished, by itself, or before it ran.
   * @param kept The end of what it wrote, kept with the kernel if that changes.
   */
  async ended(
    fact: Fact,
    reason: string,
    exitCode: number | null,
    data: Record<string, unknown> = {},
    kept: Record<string, unknown> = {},
  ): Promise<ChangedSession[]> {
    const known: StatusReason = reason in statusReasons ? (reason as StatusReason) : 'self-terminated';
    const failed = startFailures.has(known);
    const facts = {
      ...data,
      ...(exitCode === null ? {} : { exitCode }),
      ...(known === reason ? {} : { detail: reason }),
    };
    const base = { reason: known, exitCode, data: facts, kernelData: kept };
    const asWished = await this.#tell(failed ? 'endedAsWished' : 'ended', fact, base);
    if (asWished.length > 0) return asWished;
    const early = { ...base, reason: failed ? known : startReason(known) };
    return await this.#tell(failed ? 'failed' : 'endedEarly', fact, early);
  }

  /** Its agent is there without it. */
  async lost(fact: Fact): Promise<ChangedSession[]> {
    return await this.#tell('lost', fact, { reason: 'kernel-lost' });
  }

  async #tell(kind: keyof typeof kinds, fact: Fact, what: Omit<KernelFact, keyof Fact>): Promise<ChangedSession[]> {
    return await this.#transitions.tell(kinds[kind], { ...fact, ...what });
  }
}

/** A start of which two steps came together: both are told. */
function byWayOfCreating(changed: ChangedSession): ChangedSession[] {
  const { from, to } = changed;
  if (to !== 'RUNNING' || from === 'CREATING' || from === to) return [changed];
  return [
    { ...changed, to: 'CREATING', reason: 'progress' },
    { ...changed, from: 'CREATING' },
  ];
}

const startFailures: ReadonlySet<StatusReason> = new Set(['start-failed', 'image-pull-failed', 'disk-full']);

function failureReason(code: ErrorCode): StatusReason {
  if (code === 'disk-full') return code;
  return code.startsWith('image-') ? 'image-pull-failed' : 'start-failed';
}

/** Why it ended before it ran, when that is worth more than that it did. */
function startReason(reason: StatusReason): StatusReason {
  return reason === 'self-terminated' || reason === 'user-requested' ? 'start-failed' : reason;
}

/** The end of it for people, and all that may still be followed. */
function keptOf({ log, console }: Extract<KernelEvent, { type: 'kernel-terminated' }>): Record<string, unknown> {
  return { ...(log === undefined ? {} : { log }), ...(console ? { console } : {}) };
}
