import type {
  AgentImageState,
  AgentRegistration,
  AgentService,
  CallContext,
  ImageSource,
  KernelCommit,
  KernelCommitState,
  KernelReport,
  WarmSlotReport,
  WarmSlotSpec,
  WarmSlotsInput,
} from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { type FakeKernel, FakeKernels, untilAborted } from './fake-kernels.ts';

export type { CreateBehaviour } from './fake-kernels.ts';
export { type FakeAgentOptions, simulated } from './fake-link.ts';

/**
 * A scripted agent over the real links: what it does is told by its fields, at any time. Here are its images, warm slots,
 * networks, pauses and commits.
 */
export class FakeAgent extends FakeKernels implements AgentService {
  protected override get service(): this {
    return this;
  }

  /** What `checkImage` says of images it was not asked to fetch or to remove. */
  readonly imageStates = new Map<string, AgentImageState>();
  readonly pulls: Array<{ image: string; source: ImageSource }> = [];
  readonly purges: string[] = [];

  async checkImage({ image }: { image: string }): Promise<AgentImageState> {
    return this.imageStates.get(image) ?? { state: 'absent', digest: null, progress: null, failure: null };
  }

  /** What becomes of slots that it is to start. `ignore`: it starts none. */
  warmBehaviour: 'ready' | 'stall' | 'fail' | 'ignore' | 'hang' = 'ready';
  readonly warmSlots = new Map<string, WarmSlotReport>();
  /** Slots that became kernels, in the order of their orders. */
  readonly claims: string[] = [];
  /** Of each time that it was told which slots there are to be. */
  readonly wishes: WarmSlotSpec[][] = [];

  async keepWarmSlots({ slots, claimed = [] }: WarmSlotsInput, ctx: CallContext): Promise<{ slots: WarmSlotReport[] }> {
    this.admit(ctx.headers.epoch);
    this.wishes.push(slots);
    if (this.warmBehaviour === 'hang') {
      await untilAborted(ctx.signal);
      return { slots: [] };
    }
    const kept = new Set([...slots.map(({ slotId }) => slotId), ...claimed]);
    for (const slotId of this.warmSlots.keys()) if (!kept.has(slotId)) this.warmSlots.delete(slotId);
    // What it is not to keep has gone: its answer says so.
    if (this.warmBehaviour === 'ignore') return { slots: [...this.warmSlots.values()] };
    const states = { ready: 'ready', stall: 'starting', fail: 'failed' } as const;
    const state = states[this.warmBehaviour];
    const error = new AppError('kernel-start-failed', this.failure).toBody();
    for (const { slotId, image, slots: amounts } of slots) {
      if (this.warmSlots.has(slotId) || this.kernels.has(slotId) || this.ended.has(slotId)) continue;
      this.warmSlots.set(slotId, { slotId, image, slots: amounts, state, ...(state === 'failed' ? { error } : {}) });
    }
    void this.reportWarmSlots().catch(() => {});
    return { slots: [...this.warmSlots.values()] };
  }

  async reportWarmSlots(): Promise<void> {
    const slots = [...this.warmSlots.values()];
    await this.inRequest(() => this.api.reportWarmSlots.mutate({ agentId: this.id, slots }));
  }

  /** A slot dies, and the agent tells it. */
  async loseSlot(slotId: string, tell = true): Promise<void> {
    const slot = this.warmSlots.get(slotId);
    if (!slot) return;
    const error = new AppError('kernel-lost', 'It has ended.').toBody();
    this.warmSlots.set(slotId, { ...slot, state: 'failed', error });
    if (tell) await this.reportWarmSlots();
    else this.warmSlots.delete(slotId);
  }

  async pullImage(input: { image: string; source: ImageSource }): Promise<{ accepted: true }> {
    this.pulls.push(input);
    return { accepted: true };
  }

  async purgeImage({ image }: { image: string }): Promise<{ removed: boolean }> {
    this.purges.push(image);
    return { removed: this.imageStates.delete(image) };
  }

  /** Sessions whose networks it has made. */
  readonly networks = new Set<string>();
  /** Why it removes none, as often as it is here. */
  readonly networkRefusals: AppError[] = [];
  /** Thrown by all that is asked of its swarm. */
  engineFailure: AppError | undefined;

  async ensureClusterNetwork({ sessionId }: { sessionId: string }, ctx: CallContext): Promise<{ network: string }> {
    this.admit(ctx.headers.epoch);
    if (this.engineFailure) throw this.engineFailure;
    this.networks.add(sessionId);
    return { network: `network-${sessionId}` };
  }

  async removeClusterNetwork({ sessionId }: { sessionId: string }, ctx: CallContext): Promise<void> {
    this.admit(ctx.headers.epoch);
    if (this.engineFailure) throw this.engineFailure;
    const refusal = this.networkRefusals.shift();
    if (refusal) throw refusal;
    this.networks.delete(sessionId);
  }

  /** Kernels whose programs stand still. */
  readonly paused = new Set<string>();
  /** Thrown instead of pausing. */
  refusePause: AppError | undefined;

  async pauseKernel({ kernelId }: { kernelId: string }): Promise<void> {
    this.kernel(kernelId);
    if (this.refusePause) throw this.refusePause;
    this.paused.add(kernelId);
  }

  async resumeKernel({ kernelId }: { kernelId: string }): Promise<void> {
    this.kernel(kernelId);
    this.paused.delete(kernelId);
  }

  /** What `checkCommit` says; orders begin with `committing` and end by the test. */
  readonly commits = new Map<string, KernelCommitState>();
  readonly commitOrders: Array<KernelCommit & { kernelId: string }> = [];

  async commitKernel(input: KernelCommit & { kernelId: string }): Promise<{ accepted: true }> {
    this.kernel(input.kernelId);
    this.commitOrders.push(input);
    this.commits.set(input.kernelId, { state: 'committing', image: input.image, failure: null });
    return { accepted: true };
  }

  async checkCommit({ kernelId }: { kernelId: string }): Promise<KernelCommitState> {
    return this.commits.get(kernelId) ?? { state: 'none', image: null, failure: null };
  }

  /** As an agent that has other images now. */
  async offer(images: AgentRegistration['images']): Promise<void> {
    await this.api.reportImages.mutate({ agentId: this.id, images });
  }
  async status(): Promise<Awaited<ReturnType<AgentService['status']>>> {
    return { agentId: this.id, bootId: this.bootId, version: '0.1.0', kernels: this.reports() };
  }

  protected override takeSlot(kernelId: string): void {
    if (this.warmSlots.delete(kernelId)) this.claims.push(kernelId);
  }

  protected override report(kernel: FakeKernel): KernelReport {
    return { ...super.report(kernel), ...(this.paused.has(kernel.spec.kernelId) ? { paused: true } : {}) };
  }
}
