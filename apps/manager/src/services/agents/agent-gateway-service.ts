import {
  type AgentGatewayService as AgentGateway,
  type AgentRegistration,
  type CallContext,
  type Heartbeat,
  type HeartbeatReply,
  type Image,
  imageSchema,
  type KernelEvent,
  type RegistrationReply,
  type WarmSlotReport,
} from '@backend.ai/contract';
import { AppError, type Clock, hasCode, Lanes, parseRequestId } from '@backend.ai/core';
import { ensureRequestId, type Logger, requireRequestId } from '@backend.ai/telemetry';
import type { AgentClients } from '../../clients/agent-clients.ts';
import { BusinessLog } from '../../events.ts';
import type { AgentRepository } from '../../repositories/agents.ts';
import type { KernelLogRepository } from '../../repositories/kernel-logs.ts';
import type { ChangedSession } from '../../repositories/session-transitions.ts';
import type { PausingService } from '../kernels/pausing-service.ts';
import type { PeerService } from '../peers/peer-service.ts';
import type { BatchJobs } from '../sessions/batch-jobs.ts';
import type { SessionChanges } from '../sessions/session-changes.ts';
import type { KernelStatistics } from '../statistics/kernel-statistics.ts';
import type { MachineStatistics } from '../statistics/machine-statistics.ts';
import type { StatisticsService } from '../statistics/statistics-service.ts';
import type { WarmPoolService } from '../warm-pools/warm-pool-service.ts';
import type { AgentDirectory } from './agent-directory.ts';
import { compareKernels } from './compare-kernels.ts';
import { eventChains } from './event-chains.ts';
import type { Fact, KernelFacts } from './kernel-facts.ts';

export interface AgentGatewayOptions {
  readonly agents: AgentRepository;
  readonly logs: KernelLogRepository;
  readonly directory: AgentDirectory;
  readonly clients: AgentClients;
  readonly peers: PeerService;
  readonly facts: KernelFacts;
  readonly kernelStatistics: KernelStatistics;
  readonly machineStatistics: MachineStatistics;
  readonly statistics: StatisticsService;
  readonly warmPools: Pick<WarmPoolService, 'tell'>;
  readonly changes: SessionChanges;
  readonly batchJobs: BatchJobs;
  readonly pausing: Pick<PausingService, 'correct'>;
  readonly logger: Logger;
  readonly heartbeatMs: number;
  /** How long a kernel may be missing at an agent that cannot be asked for it. */
  readonly missingGraceMs: number;
  readonly clock: Clock;
}

/** An agent that is asked about a kernel answers within this time, or with its next heartbeat it is asked again. */
const absenceDeadlineMs = 2_000;

/** What agents tell: who they are, that they live, what happened, and what is true. */
export class AgentGatewayService implements AgentGateway {
  readonly #options: AgentGatewayOptions;
  readonly #log: BusinessLog;
  /** One agent's messages are handled in their order. */
  readonly #lines = new Lanes<string>();
  /**
   * Number of the last event known to be stored, by agent. May lag behind when the agent talked to another manager: the
   * number in the database is what decides.
   */
  readonly #counted = new Map<string, number>();
  /** Kernels that an agent is being asked for. */
  readonly #asked = new Set<string>();
  /**
   * By agent: kernels that it does not report and was asked for in vain, each with the moment (monotonic) of the first
   * time.
   */
  readonly #missing = new Map<string, Map<string, number>>();

  constructor(options: AgentGatewayOptions) {
    this.#options = options;
    this.#log = new BusinessLog(options.logger);
  }

  async register(input: AgentRegistration, ctx: CallContext): Promise<RegistrationReply> {
    const { agents, directory, clients, peers, heartbeatMs } = this.#options;
    const { agentId, bootId, backend } = input;
    checkOwn(agentId, ctx);
    return await this.#lines.follow(agentId, async () => {
      // At first the token that let it in decides; what it says itself counts only if that said nothing.
      const initialGroup = (await peers.resourceGroupOf('agent', agentId)) ?? input.resourceGroup;
      const images = this.#usableImages(agentId, input.images);
      const { ackedSeq, resourceGroup } = await agents.register({ ...input, images }, initialGroup);
      this.#counted.set(agentId, ackedSeq);
      clients.refresh(agentId);
      this.#log.agentRegistered(agentId, { bootId, backend, resourceGroup });
      directory.announce(agentId);
      return { heartbeatMs, ackedSeq, managerKeys: await peers.managerKeys() };
    });
  }

  async heartbeat(input: Heartbeat, ctx: CallContext): Promise<HeartbeatReply> {
    checkOwn(input.agentId, ctx);
    const { agentId } = input;
    const { reply, missing } = await this.#lines.follow(agentId, () => this.#heartbeat(input));
    // The agent is asked outside its line: what it has to tell meanwhile does not wait for its answers.
    const absent = [...(await this.#absentOf(agentId, missing)), ...this.#longMissing(agentId)];
    if (absent.length > 0) await this.#lines.follow(agentId, () => this.#lost(agentId, absent));
    return reply;
  }

  async #heartbeat(input: Heartbeat): Promise<{ reply: HeartbeatReply; missing: string[] }> {
    const { agents, directory, facts, peers } = this.#options;
    const { agentId } = input;
    const seen = await agents.heartbeat(
      agentId,
      input.kernels.map((kernel) => kernel.kernelId),
    );
    if (seen.before === undefined) {
      this.#counted.delete(agentId);
      throw new AppError('object-not-found', `The agent ${agentId} is not registered.`, { hint: 'Register first.' });
    }
    if (seen.before !== 'ALIVE') {
      this.#log.agentBack(agentId);
      directory.announce(agentId);
    }
    if (input.measurements) {
      const ours = new Set(seen.kernels.map(({ kernelId }) => kernelId));
      const paused = new Set(input.kernels.flatMap((kernel) => (kernel.paused ? [kernel.kernelId] : [])));
      this.#options.kernelStatistics.record(agentId, input.measurements, ours, paused);
    }
    const present = new Set(input.kernels.map(({ kernelId }) => kernelId));
    this.#forgetMissing(
      agentId,
      (kernelId) => present.has(kernelId) || !seen.kernels.some((k) => k.kernelId === kernelId),
    );
    if (input.machine) this.#options.machineStatistics.record(agentId, input.machine);
    const differences = compareKernels(input, seen.kernels, seen.ackedSeq);
    for (const { kernel, report } of differences.running) {
      const isolation = report.isolation;
      await this.#apply(agentId, kernel.kernelId, report.requestId, (fact) => facts.started(fact, { isolation }));
    }
    for (const { kernel, report, batch } of differences.finished) {
      await this.#apply(agentId, kernel.kernelId, report.requestId, (fact) => facts.finished(fact, batch));
    }
    for (const { kernel, report } of differences.ended) {
      const reason = report?.reason ?? 'self-terminated';
      const exitCode = report?.exitCode ?? null;
      await this.#apply(agentId, kernel.kernelId, report?.requestId, (fact) => facts.ended(fact, reason, exitCode));
    }
    for (const kernelId of differences.waiting) this.#options.batchJobs.begin({ kernelId });
    this.#options.pausing.correct(agentId, differences.disobedient);
    if (differences.unknown.length > 0) this.#log.kernelsUnknown(agentId, differences.unknown);
    return {
      reply: { unknownKernels: differences.unknown, managerKeys: await peers.managerKeys() },
      missing: differences.lost.map(({ kernelId }) => kernelId),
    };
  }

  async #lost(agentId: string, kernelIds: readonly string[]): Promise<void> {
    for (const kernelId of kernelIds)
      await this.#apply(agentId, kernelId, undefined, (fact) => this.#options.facts.lost(fact));
  }

  async reportEvents(
    { agentId, events }: { agentId: string; events: KernelEvent[] },
    ctx: CallContext,
  ): Promise<{ ackedSeq: number }> {
    checkOwn(agentId, ctx);
    return await this.#lines.follow(agentId, async () => {
      const { agents } = this.#options;
      const counted = this.#counted.get(agentId) ?? (await agents.ackedSeq(agentId));
      if (counted === undefined) {
        throw new AppError('object-not-found', `The agent ${agentId} is not registered.`, { hint: 'Register first.' });
      }
      const fresh = events.filter(({ seq }) => seq > counted);
      const last = fresh.at(-1)?.seq;
      if (last === undefined) return { ackedSeq: counted };
      const chains = eventChains(fresh);
      // Numbers count upwards: those of several kernels, which do not wait for each other, once all is stored.
      const [chain, ...others] = chains;
      const stored =
        chain && others.length === 0 ? await this.#told(agentId, chain, true) : await this.#each(agentId, chains);
      if (stored < last) await agents.acknowledge(agentId, last);
      this.#counted.set(agentId, last);
      return { ackedSeq: last };
    });
  }

  async reportWarmSlots(
    { agentId, slots }: { agentId: string; slots: WarmSlotReport[] },
    ctx: CallContext,
  ): Promise<void> {
    checkOwn(agentId, ctx);
    await this.#lines.follow(agentId, () => this.#options.warmPools.tell(agentId, slots));
  }

  async reportImages({ agentId, images }: { agentId: string; images: Image[] }, ctx: CallContext): Promise<void> {
    checkOwn(agentId, ctx);
    await this.#options.agents.keepImages(agentId, this.#usableImages(agentId, images));
    this.#options.directory.announce(agentId);
  }

  /** @returns 0: no number is stored with what changed */
  async #each(agentId: string, chains: readonly KernelEvent[][]): Promise<number> {
    const settled = await Promise.allSettled(chains.map((chain) => this.#told(agentId, chain, false)));
    for (const one of settled) if (one.status === 'rejected') throw one.reason;
    return 0;
  }

  /**
   * Events of one kernel.
   * @param count Whether their numbers are stored with what they change.
   * @returns the last number that was
   */
  async #told(agentId: string, chain: readonly KernelEvent[], count: boolean): Promise<number> {
    const { facts, statistics, logs } = this.#options;
    let stored = 0;
    for (const event of chain) {
      // Before the change: with it the kernel of a session that starts anew is another one.
      if (event.type === 'kernel-terminated') {
        await statistics.end(agentId, event.kernelId, Date.parse(event.at), event.metrics);
      }
      const changed = await ensureRequestId(() => facts.apply(agentId, event, count), parseRequestId(event.requestId));
      // Of a kernel that was given up before; else the change took the log along.
      if ('log' in event && event.log !== undefined && changed.length === 0) {
        await logs.keep(event.kernelId, agentId, event.log, 'console' in event ? event.console : undefined);
      }
      this.#announce(changed, event.requestId);
      if (count && changed.length > 0) stored = event.seq;
    }
    return stored;
  }

  /** Those of the kernels that the agent says it has not, each asked for once at a time. */
  async #absentOf(agentId: string, kernelIds: readonly string[]): Promise<string[]> {
    const asked = kernelIds.filter((kernelId) => !this.#asked.has(kernelId));
    for (const kernelId of asked) this.#asked.add(kernelId);
    try {
      const absent = await Promise.all(asked.map((kernelId) => this.#confirmsAbsence(agentId, kernelId)));
      return asked.filter((_, nth) => absent[nth]);
    } finally {
      for (const kernelId of asked) this.#asked.delete(kernelId);
    }
  }

  /**
   * The second proof of a loss: the agent says so when it is asked. One that does not answer proves nothing, but time does:
   * see `#longMissing`.
   */
  async #confirmsAbsence(agentId: string, kernelId: string): Promise<boolean> {
    try {
      await this.#options.clients.call(agentId, (api) =>
        api.checkKernel.query({ kernelId }, { context: { deadlineMs: absenceDeadlineMs } }),
      );
    } catch (error) {
      if (hasCode(error, 'kernel-not-found')) return true;
      this.#log.absenceUnproved(agentId, kernelId, error);
      const missing = this.#missing.get(agentId) ?? new Map<string, number>();
      this.#missing.set(agentId, missing);
      if (!missing.has(kernelId)) missing.set(kernelId, this.#options.clock.monotonic());
    }
    return false;
  }

  /** Kernels that no heartbeat had in all the time in which an agent that cannot be reached at all would be given up. */
  #longMissing(agentId: string): string[] {
    const { clock, missingGraceMs } = this.#options;
    const before = clock.monotonic() - missingGraceMs;
    const missing = [...(this.#missing.get(agentId) ?? [])];
    return missing.flatMap(([kernelId, since]) => (since <= before ? [kernelId] : []));
  }

  #forgetMissing(agentId: string, isSettled: (kernelId: string) => boolean): void {
    const missing = this.#missing.get(agentId);
    if (!missing) return;
    for (const kernelId of missing.keys()) if (isSettled(kernelId)) missing.delete(kernelId);
    if (missing.size === 0) this.#missing.delete(agentId);
  }

  /** One image that nobody could ask for does not keep the others, or the agent, out. */
  #usableImages(agentId: string, offered: readonly unknown[]): Image[] {
    return offered.flatMap((image) => {
      const parsed = imageSchema.safeParse(image);
      if (parsed.success) return [parsed.data];
      this.#log.imageRefused(agentId, parsed.error.issues);
      return [];
    });
  }

  async #apply(
    agentId: string,
    kernelId: string,
    causedBy: string | undefined,
    work: (fact: Fact) => Promise<ChangedSession[]>,
  ): Promise<void> {
    const cause = parseRequestId(causedBy);
    await ensureRequestId(async () => {
      const requestId = cause ?? requireRequestId();
      this.#announce(await work({ agentId, kernelId, requestId }), requestId);
    }, cause);
  }

  #announce(changed: readonly ChangedSession[], requestId: string): void {
    if (changed.length === 0) return;
    const { changes, batchJobs } = this.#options;
    ensureRequestId(() => {
      changes.announce(changed);
      for (const { sessionId, clusterSize, from, to } of changed) {
        if (clusterSize > 1 && to === 'RUNNING' && from !== to) batchJobs.begin({ sessionId });
      }
    }, parseRequestId(requestId));
  }
}

/** An agent speaks for itself alone. */
function checkOwn(agentId: string, { actor }: CallContext): void {
  if (actor.kind === 'peer' && actor.peerKind === 'agent' && actor.peerId === agentId) return;
  throw new AppError('peer-rejected', `This peer may not speak for the agent ${agentId}.`);
}
