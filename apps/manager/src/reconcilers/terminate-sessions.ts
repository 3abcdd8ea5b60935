import { hasCode, parseRequestId } from '@backend.ai/core';
import { BusinessLog } from '../events.ts';
import type { KernelAtAgent } from '../repositories/kernels.ts';
import type { OrderOptions } from './order-options.ts';

export interface TerminateSessionsOptions extends OrderOptions {
  /** When no start of this kernel is under way from here: its end must not overtake it. */
  readonly startSettled: (kernelId: string) => Promise<void>;
}

/**
 * Tells agents to end what is TERMINATING, again and again until they report the end. What cannot be told is given up
 * by its deadline; what has no agent any more has ended. What somebody ended by force they are told once: its place is
 * given to others already, who would be refused there until the next heartbeat, which finds what was not told.
 */
export class TerminateSessions {
  readonly #options: TerminateSessionsOptions;
  readonly #log: BusinessLog;
  readonly #underWay = new Set<string>();
  readonly #toldAt = new Map<string, number>();
  /** Sessions ended by force of which no agent has been told. */
  readonly #forced = new Set<string>();
  readonly #stopHearing: () => void;
  #cancelWake: (() => void) | undefined;

  constructor(options: TerminateSessionsOptions) {
    this.#options = options;
    this.#log = new BusinessLog(options.logger);
    this.#stopHearing = options.changes.onChange(({ sessionId, forced }) => {
      if (!forced) return;
      this.#forced.add(sessionId);
      options.again();
    });
  }

  async run(epoch: number): Promise<void> {
    const { transitions, changes, tasks, clock, askAgainMs } = this.#options;
    const forced = [...this.#forced];
    this.#forced.clear();
    const kernels = await this.#options.kernels.ending(forced);
    const present = new Set(kernels.map((kernel) => kernel.kernelId));
    for (const kernelId of this.#toldAt.keys()) if (!present.has(kernelId)) this.#toldAt.delete(kernelId);
    if (kernels.length === 0) return;
    for (const kernel of kernels) {
      const toldAt = this.#toldAt.get(kernel.kernelId);
      const isNews = kernel.status !== 'TERMINATING' || toldAt === undefined;
      const justTold = !isNews && clock.monotonic() - toldAt < askAgainMs;
      if (justTold || this.#underWay.has(kernel.kernelId)) continue;
      this.#underWay.add(kernel.kernelId);
      const cause = parseRequestId(kernel.data.requestId) ?? parseRequestId(kernel.requestId);
      tasks.start('end kernel', () => this.#end(kernel, epoch), cause);
    }
    // Only an agent that was told long ago can have been forgotten since.
    if (kernels.some((kernel) => kernel.ageMs > askAgainMs)) {
      changes.announce(
        await transitions.applyToKernels({
          target: { agentForgotten: true },
          from: ['TERMINATING'],
          to: 'TERMINATED',
          reason: 'agent-lost',
          keepReasonOfEnding: true,
          epoch,
        }),
      );
    }
    this.#wakeLater();
  }

  stop(): void {
    this.#stopHearing();
    this.#cancelWake?.();
  }

  async #end(kernel: KernelAtAgent, epoch: number): Promise<void> {
    const { clients, clock, transitions, changes, startSettled, orderDeadlineMs: deadlineMs } = this.#options;
    const { kernelId, agentId, reason } = kernel;
    try {
      await startSettled(kernelId);
      const forced = kernel.data.forced === true;
      await clients.call(agentId, (api) =>
        api.destroyKernel.mutate({ kernelId, reason, forced }, { context: { deadlineMs, epoch } }),
      );
    } catch (error) {
      if (hasCode(error, 'kernel-not-found')) {
        const target = { kernelId, agentId };
        changes.announce(
          await transitions.applyToKernels({
            target,
            from: ['TERMINATING'],
            to: 'TERMINATED',
            reason: 'kernel-lost',
            keepReasonOfEnding: true,
            epoch,
          }),
        );
        return;
      }
      this.#log.destroyFailed(kernelId, agentId, error);
    } finally {
      this.#toldAt.set(kernelId, clock.monotonic());
      this.#underWay.delete(kernelId);
    }
  }

  #wakeLater(): void {
    const { clock, askAgainMs, again } = this.#options;
    this.#cancelWake?.();
    this.#cancelWake = clock.setTimer(askAgainMs, again);
  }
}
