import type {
  AgentImageState,
  AgentService,
  AgentSummary,
  CallContext,
  KernelCommitState,
  KernelReport,
  KernelSpec,
  LogChunk,
  WarmSlotReport,
} from '@backend.ai/contract';
import { AppError, type Clock } from '@backend.ai/core';
import { requireRequestId } from '@backend.ai/telemetry';
import type { Backend, BackendClusterNetworks, BackendImages } from '../backends/backend.ts';
import type { Tickets } from '../data-port/tickets.ts';
import type { AgentState } from '../kernels/agent-state.ts';
import { followLog, sourceOf } from '../kernels/follow-log.ts';
import type { KernelCommits } from '../kernels/kernel-commits.ts';
import type { KernelSupervisor } from '../kernels/supervisor.ts';

export interface AgentServiceOptions {
  readonly agentId: string;
  readonly bootId: string;
  readonly version: string;
  readonly state: AgentState;
  readonly supervisor: KernelSupervisor;
  readonly backend: Pick<Backend, 'capabilities' | 'images' | 'clusterNetworks'>;
  /** The access key of who owns all that the agent can read; undefined: nobody was named. */
  readonly installationOwner: string | undefined;
  readonly commits: KernelCommits;
  readonly tickets: Tickets;
  readonly clock: Clock;
  readonly dataAddress: () => string;
  /** Of the data port; undefined without TLS. */
  readonly certificate: string | undefined;
}

type Input<Name extends keyof AgentService> = Parameters<AgentService[Name]>[0];

/** What managers may ask of this agent. */
export class LocalAgentService implements AgentService {
  readonly #options: AgentServiceOptions;

  constructor(options: AgentServiceOptions) {
    this.#options = options;
  }

  async createKernel(spec: KernelSpec, ctx: CallContext): Promise<{ accepted: true }> {
    const { state, supervisor, backend, installationOwner } = this.#options;
    state.admitEpoch(ctx.headers.epoch);
    const { sandbox, ownUid } = backend.capabilities.isolation;
    if (sandbox === 'none' && !ownUid) state.admitOnly(spec.accessKey, installationOwner);
    supervisor.create(spec);
    return { accepted: true };
  }

  async destroyKernel(input: Input<'destroyKernel'>, ctx: CallContext): Promise<{ accepted: true }> {
    this.#options.state.admitEpoch(ctx.headers.epoch);
    this.#options.supervisor.destroy(input.kernelId, input.reason, input.forced);
    return { accepted: true };
  }

  async beginBatch({ kernelId }: Input<'beginBatch'>): Promise<{ accepted: true }> {
    this.#options.supervisor.beginBatch(kernelId);
    return { accepted: true };
  }

  async checkKernel({ kernelId }: Input<'checkKernel'>): Promise<KernelReport> {
    return this.#options.supervisor.report(kernelId);
  }

  async execute({ kernelId, ...input }: Input<'execute'>, ctx: CallContext) {
    const { supervisor } = this.#options;
    const kernel = supervisor.find(kernelId);
    if (kernel?.handle && kernel.state === 'terminating' && input.mode === 'continue') {
      return await kernel.handle.execute(input, ctx.signal);
    }
    const words = input.mode === 'continue' && input.runId ? supervisor.lastWords(kernelId, input.runId) : undefined;
    if (!kernel && words) return words;
    const asked = supervisor.get(kernelId);
    // What was printed before can be read.
    const handle = input.mode === 'continue' ? asked.running : asked.listening;
    return await handle.execute(input, ctx.signal);
  }

  async interrupt({ kernelId, runId }: Input<'interrupt'>): Promise<void> {
    await this.#options.supervisor.get(kernelId).listening.interrupt(runId);
  }

  async complete({ kernelId, ...input }: Input<'complete'>) {
    return await this.#options.supervisor.get(kernelId).listening.complete(input);
  }

  async logs({ kernelId, maxBytes }: Input<'logs'>): Promise<{ logs: string }> {
    return { logs: await this.#options.supervisor.get(kernelId).running.logs(maxBytes) };
  }

  readLog({ kernelId, holdMs, ...request }: Input<'readLog'>, { signal }: CallContext): Promise<LogChunk> {
    const { supervisor, clock } = this.#options;
    return followLog({ source: () => sourceOf(supervisor, kernelId), request, holdMs, clock, signal });
  }

  async listFiles({ kernelId, path }: Input<'listFiles'>) {
    return await this.#filesOf(kernelId).list(path);
  }

  async openTransfer({ kernelId, transfer }: Input<'openTransfer'>) {
    const { tickets, dataAddress, supervisor } = this.#options;
    let size: number | null = null;
    if (transfer.kind === 'upload') this.#filesOf(kernelId).checkTarget(transfer.path);
    else if (transfer.kind === 'download') size = this.#filesOf(kernelId).size(transfer.path);
    else if (transfer.kind === 'archive') await this.#filesOf(kernelId).checkExists(transfer.path);
    if (transfer.kind !== 'download' && transfer.kind !== 'archive') void supervisor.get(kernelId).listening;
    const issued = tickets.issue({ kernelId, transfer, requestId: requireRequestId() });
    const { certificate } = this.#options;
    return { ...issued, address: dataAddress(), ...(certificate === undefined ? {} : { certificate }), size };
  }

  async services({ kernelId }: Input<'services'>) {
    return await this.#options.supervisor.get(kernelId).listening.services.list();
  }

  async startService({ kernelId, ...request }: Input<'startService'>) {
    return await this.#options.supervisor.get(kernelId).listening.services.start(request);
  }

  async stopService({ kernelId, service }: Input<'stopService'>): Promise<void> {
    await this.#options.supervisor.get(kernelId).listening.services.stop(service);
  }

  async pauseKernel({ kernelId }: Input<'pauseKernel'>): Promise<void> {
    await this.#options.supervisor.get(kernelId).running.pause();
  }

  async resumeKernel({ kernelId }: Input<'resumeKernel'>): Promise<void> {
    await this.#options.supervisor.get(kernelId).running.resume();
  }

  async commitKernel({ kernelId, ...commit }: Input<'commitKernel'>): Promise<{ accepted: true }> {
    const { commits, supervisor } = this.#options;
    commits.begin(kernelId, supervisor.get(kernelId).running, commit);
    return { accepted: true };
  }

  async checkCommit({ kernelId }: Input<'checkCommit'>): Promise<KernelCommitState> {
    return this.#options.commits.state(kernelId);
  }

  async status(): Promise<AgentSummary> {
    const { agentId, bootId, version, supervisor } = this.#options;
    return { agentId, bootId, version, kernels: supervisor.reports() };
  }

  async checkImage({ image }: Input<'checkImage'>): Promise<AgentImageState> {
    return await this.#images.state(image);
  }

  async pullImage({ image, source }: Input<'pullImage'>): Promise<{ accepted: true }> {
    this.#images.preload({ name: image, source });
    return { accepted: true };
  }

  async purgeImage({ image, forced }: Input<'purgeImage'>): Promise<{ removed: boolean }> {
    return { removed: await this.#images.purge(image, forced) };
  }

  async keepWarmSlots(
    { slots, claimed = [] }: Input<'keepWarmSlots'>,
    ctx: CallContext,
  ): Promise<{ slots: WarmSlotReport[] }> {
    const { state, supervisor } = this.#options;
    state.admitEpoch(ctx.headers.epoch);
    supervisor.warmSlots.keep({ wished: slots, claimed });
    return { slots: supervisor.warmSlots.reports() };
  }

  async ensureClusterNetwork(
    { sessionId }: Input<'ensureClusterNetwork'>,
    ctx: CallContext,
  ): Promise<{ network: string }> {
    this.#options.state.admitEpoch(ctx.headers.epoch);
    return { network: await this.#clusterNetworks.ensure(sessionId) };
  }

  async removeClusterNetwork({ sessionId }: Input<'removeClusterNetwork'>, ctx: CallContext): Promise<void> {
    this.#options.state.admitEpoch(ctx.headers.epoch);
    await this.#clusterNetworks.remove(sessionId);
  }

  get #clusterNetworks(): BackendClusterNetworks {
    const { capabilities, clusterNetworks } = this.#options.backend;
    // Engines come to manage a swarm, and cease to, while the manager knows what was so before.
    if (!clusterNetworks || capabilities.swarm?.swarmId === undefined) {
      throw new AppError('unsupported-feature', 'This agent has no container engine that manages a swarm.');
    }
    return clusterNetworks;
  }

  get #images(): BackendImages {
    const { images } = this.#options.backend;
    if (!images) throw new AppError('unsupported-feature', 'This agent has no container engine.');
    return images;
  }

  #filesOf(kernelId: string) {
    const { files } = this.#options.supervisor.get(kernelId).running;
    if (!files) throw new AppError('unsupported-feature', 'A simulated kernel has no files.');
    return files;
  }
}
