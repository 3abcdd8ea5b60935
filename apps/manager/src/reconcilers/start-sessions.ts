import { AppError, backoffMs, hasCode, parseRequestId, startingStatuses } from '@backend.ai/core';
import { BusinessLog } from '../events.ts';
import type { StartableKernel } from '../repositories/session-transitions.ts';
import type { SchedulingMemory } from '../scheduling/scheduling-memory.ts';
import type { ImageSources } from '../services/images/image-sources.ts';
import type { ClusterKeys } from '../services/sessions/cluster-keys.ts';
import type { ClusterNetworks } from '../services/sessions/cluster-networks.ts';
import { type ClusterToStart, kernelSpecOf } from '../services/sessions/kernel-spec.ts';
import type { OrderOptions } from './order-options.ts';

export interface StartSessionsOptions extends OrderOptions {
  readonly memory: SchedulingMemory;
  readonly clusterKeys: ClusterKeys;
  readonly clusterNetworks: ClusterNetworks;
  readonly imageSources: ImageSources;
  readonly refusalBackoff: { readonly initialMs: number; readonly maxMs: number };
}

/**
 * Orders agents to start what is PREPARING. That state is written before the order goes out, so that after a crash in
 * between somebody asks the agent; no order goes out for a session that was ended meanwhile.
 *
 * An agent that refuses gives the session back to the queue. An answer that did not come means "unknown": the agent is
 * asked what it has before it is told again.
 */
export class StartSessions {
  readonly #options: StartSessionsOptions;
  readonly #log: BusinessLog;
  /** Orders under way from this process, by kernel. */
  readonly #underWay = new Map<string, Promise<void>>();
  /** When the agent last said that it has the kernel. */
  readonly #confirmed = new Map<string, number>();
  #cancelWake: (() => void) | undefined;

  constructor(options: StartSessionsOptions) {
    this.#options = options;
    this.#log = new BusinessLog(options.logger);
  }

  /** Orders the kernels of a session that was placed and is PREPARING since this moment. */
  begin(kernels: readonly StartableKernel[], epoch: number): void {
    for (const [nth, kernel] of kernels.entries()) {
      this.#inBackground(kernel, () => {
        const steps = [
          { ...kernel, to: 'SCHEDULED' },
          { ...kernel, from: 'SCHEDULED', to: 'PREPARING' },
        ] as const;
        if (nth === 0) this.#options.changes.announce(steps);
        return this.#order(kernel, epoch);
      });
    }
  }

  /** Asks about what should have been ordered and is not known to be there. */
  async run(epoch: number): Promise<void> {
    const { clock, askAgainMs } = this.#options;
    const kernels = await this.#options.kernels.preparing();
    const present = new Set<string>(kernels.map((kernel) => kernel.kernelId));
    for (const kernelId of this.#confirmed.keys()) if (!present.has(kernelId)) this.#confirmed.delete(kernelId);
    for (const kernel of kernels) {
      const confirmedAt = this.#confirmed.get(kernel.kernelId);
      const fresh = confirmedAt !== undefined && clock.monotonic() - confirmedAt < askAgainMs;
      if (!fresh && !this.#underWay.has(kernel.kernelId))
        this.#inBackground(kernel, () => this.#askFirst(kernel, epoch));
    }
  }

  /** When no order for this kernel is under way from here. */
  async settled(kernelId: string): Promise<void> {
    await this.#underWay.get(kernelId);
  }

  stop(): void {
    this.#cancelWake?.();
  }

  #inBackground(kernel: StartableKernel, work: () => Promise<void>): void {
    const { tasks } = this.#options;
    const done = new Promise<void>((resolve) => {
      tasks.start('start kernel', () => work().finally(resolve), parseRequestId(kernel.requestId));
    });
    this.#underWay.set(kernel.kernelId, done);
    void done.then(() => this.#underWay.delete(kernel.kernelId));
  }

  async #order(kernel: StartableKernel, epoch: number): Promise<void> {
    const { clients, clock, orderDeadlineMs: deadlineMs } = this.#options;
    const agentId = kernel.agentId ?? '';
    try {
      const cluster = kernel.clusterSize > 1 ? await this.#cluster(kernel.sessionId, epoch) : undefined;
      const spec = kernelSpecOf(kernel, cluster, this.#options.imageSources.of(kernel));
      await clients.call(agentId, (api) => api.createKernel.mutate(spec, { context: { deadlineMs, epoch } }));
      this.#confirmed.set(kernel.kernelId, clock.monotonic());
    } catch (error) {
      if (isOutcomeUnknown(error)) this.#askLater(kernel, agentId, error);
      // Whoever leads now takes care of it.
      else if (!hasCode(error, 'stale-epoch')) await this.#refused(kernel, agentId, AppError.from(error), epoch);
    }
  }

  async #cluster(sessionId: string, epoch: number): Promise<ClusterToStart> {
    const { kernels, clusterKeys, clusterNetworks } = this.#options;
    const [members, keyPair] = await Promise.all([kernels.cluster(sessionId), clusterKeys.ensure(sessionId)]);
    const agentIds = members.flatMap(({ agentId }) => agentId ?? []);
    return { members, keyPair, network: await clusterNetworks.ensure(sessionId, agentIds, epoch) };
  }

  async #askFirst(kernel: StartableKernel, epoch: number): Promise<void> {
    const { clients, clock, orderDeadlineMs: deadlineMs } = this.#options;
    const agentId = kernel.agentId ?? '';
    try {
      await clients.call(agentId, (api) =>
        api.checkKernel.query({ kernelId: kernel.kernelId }, { context: { deadlineMs, epoch } }),
      );
      // It has it: events and heartbeats tell the rest.
      this.#confirmed.set(kernel.kernelId, clock.monotonic());
    } catch (error) {
      if (hasCode(error, 'kernel-not-found')) await this.#orderIfWanted(kernel, epoch);
      else this.#askLater(kernel, agentId, error);
    }
  }

  /** It may have ended, or gone back to the queue, while its agent was asked; that agent may have been told to forget it. */
  async #orderIfWanted({ kernelId }: StartableKernel, epoch: number): Promise<void> {
    for (const kernel of await this.#options.kernels.preparing(kernelId)) await this.#order(kernel, epoch);
  }

  #askLater(kernel: StartableKernel, agentId: string, error: unknown): void {
    const { clock, askAgainMs, again } = this.#options;
    this.#log.startUnknown(kernel.kernelId, agentId, error);
    this.#cancelWake?.();
    this.#cancelWake = clock.setTimer(askAgainMs, again);
  }

  async #refused(kernel: StartableKernel, agentId: string, error: AppError, epoch: number): Promise<void> {
    const { memory, transitions, changes, clock, refusalBackoff } = this.#options;
    this.#log.startRefused(kernel.kernelId, agentId, error);
    const notBefore = memory.refused(
      kernel.sessionId,
      agentId,
      (count) => clock.now() + Math.ceil(backoffMs(count, refusalBackoff)),
    );
    const data = { agent: agentId, error: error.toBody(), nextTryAt: new Date(notBefore).toISOString() };
    const target = { kernelId: kernel.kernelId, agentId };
    const back = await transitions.apply({
      target,
      from: startingStatuses,
      to: 'PENDING',
      reason: 'agent-refused',
      data,
      epoch,
    });
    changes.announce(back);
    for (const sibling of back.flatMap(({ kernels }) => kernels)) {
      if (sibling.kernelId !== kernel.kernelId) await this.#giveUp(sibling.kernelId, sibling.agentId, epoch);
    }
  }

  /** Ends a kernel whose session went back to the queue. Should this fail, the agent hears it with its next heartbeat. */
  async #giveUp(kernelId: string, agentId: string | null, epoch: number): Promise<void> {
    const { clients, orderDeadlineMs: deadlineMs } = this.#options;
    if (agentId === null) return;
    try {
      await clients.call(agentId, (api) =>
        api.destroyKernel.mutate(
          { kernelId, reason: 'agent-refused', forced: true },
          { context: { deadlineMs, epoch } },
        ),
      );
    } catch (error) {
      this.#log.destroyFailed(kernelId, agentId, error);
    }
  }
}

/** Whether the agent may have carried out an order all the same. */
export function isOutcomeUnknown(error: unknown): boolean {
  return hasCode(
    error,
    'agent-unreachable',
    'connection-lost',
    'deadline-exceeded',
    'cancelled',
    'shutting-down',
    'rate-limited',
  );
}
