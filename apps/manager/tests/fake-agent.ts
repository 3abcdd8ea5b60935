import {
  type AgentGatewayRouter,
  type AgentGatewayService,
  type AgentImageState,
  type AgentRegistration,
  type AgentService,
  type CallContext,
  createAgentGatewayRouter,
  createAgentRouter,
  type ImageSource,
  type IsolationReport,
  type KeptLog,
  type KernelCommit,
  type KernelCommitState,
  type KernelEvent,
  type KernelMeasurement,
  type KernelReport,
  type KernelSpec,
  type LogChunk,
  type Metrics,
  procedureMetas,
  rpcVersions,
  type WarmSlotReport,
  type WarmSlotSpec,
  type WarmSlotsInput,
} from '@backend.ai/contract';
import { AppError, newId, type StatusReason } from '@backend.ai/core';
import {
  createRpcClient,
  createRpcServer,
  generateIdentity,
  type PeerIdentity,
  pinnedKeys,
  type RpcClient,
  type RpcServer,
} from '@backend.ai/rpc';
import { type Logger, requireRequestId, runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';

export const simulated: IsolationReport = {
  sandbox: 'simulated',
  ownUid: false,
  memory: 'none',
  processes: 'none',
  cpu: 'none',
  network: 'host',
};

type UnnumberedEvent = KernelEvent extends infer E ? (E extends unknown ? Omit<E, 'seq' | 'at'> : never) : never;

/** What the agent does with an order to start a kernel. */
export type CreateBehaviour =
  | 'start'
  /** Takes the order and stays silent. */
  | 'stall'
  | 'refuse'
  /** Takes the order, starts, and never answers the call. */
  | 'lose-answer'
  /** Never answers, and does nothing. */
  | 'lose-order'
  | 'fail';

export interface FakeAgentOptions {
  readonly id: string;
  readonly managerAddress: string;
  readonly managerKey: string;
  readonly token: string;
  readonly logger: Logger;
  readonly slots?: Record<string, string>;
  readonly images?: AgentRegistration['images'];
  readonly architecture?: string;
  readonly backend?: AgentRegistration['backend'];
  readonly enforcesEgress?: boolean;
  /** What managers reach in its place. */
  readonly link?: (service: AgentService) => AgentService;
  readonly features?: readonly string[];
  readonly swarm?: AgentRegistration['swarm'];
}

interface FakeKernel {
  readonly spec: KernelSpec;
  readonly requestId: string;
  state: KernelReport['state'];
  exitCode: number | null;
  reason: StatusReason | null;
}

const gatewayMetas = procedureMetas(createAgentGatewayRouter({} as AgentGatewayService));
let names = 0;
const heartbeatMs = 250;

/** A scripted agent over the real links: what it does is told by its fields, at any time. */
export class FakeAgent implements AgentService {
  readonly id: string;
  readonly kernels = new Map<string, FakeKernel>();
  readonly createCalls: Array<{ kernelId: string; requestId: string; epoch: number | undefined }> = [];
  /** Kernels that it has started, each time; without those that failed or that it lost, which it may be told to start again. */
  starts: string[] = [];
  /** Kernels whose batch jobs it was told to begin, each time; they began with the first. */
  readonly begun: string[] = [];
  /** Such orders are lost while true. */
  losesBegins = false;
  /** Kernels whose end it has reported or will report. */
  readonly ended = new Set<string>();
  readonly destroyCalls: Array<{ kernelId: string; requestId: string; forced: boolean; epoch: number | undefined }> =
    [];
  behaviour: CreateBehaviour = 'start';
  /** What its heartbeats tell of the use of kernels. */
  measurements: KernelMeasurement[] | undefined;
  /** Told with each heartbeat when set. */
  machine: Metrics | undefined;
  /** Told with the end of a kernel, by its id. */
  readonly lastMetrics = new Map<string, Metrics>();
  /** Nothing is known of the output of ended kernels, as after a restart. */
  forgetsLogs = false;
  /** Told with the end of kernels. */
  console: KeptLog | undefined;
  /** Events stay in the outbox while true. */
  holdEvents = false;
  destroyBehaviour: 'end' | 'ignore' = 'end';
  /** How runs of ended kernels ended, by run id. */
  readonly lastWords = new Map<string, Awaited<ReturnType<AgentService['execute']>>>();
  /** What it says with `fail`. */
  failure = 'It fell over.';
  output = 'hello from the kernel\n';
  highestEpoch = 0;
  /** Changed by `register`. */
  swarm: AgentRegistration['swarm'];
  /** Sessions whose networks it has made. */
  readonly networks = new Set<string>();
  /** Why it removes none, as often as it is here. */
  readonly networkRefusals: AppError[] = [];
  readonly #options: FakeAgentOptions;
  readonly #identity: PeerIdentity;
  #server: RpcServer | undefined;
  #client: RpcClient<AgentGatewayRouter> | undefined;
  #address = '';
  #bootId = newId();
  #seq = 0;
  #outbox: KernelEvent[] = [];
  readonly #delivered: KernelEvent[] = [];
  #oldHeartbeat: ReturnType<FakeAgent['takeHeartbeat']> | undefined;
  #flushing: Promise<void> | undefined;
  #token: string | undefined;
  #stopBeating: (() => void) | undefined;

  constructor(options: FakeAgentOptions) {
    this.id = options.id;
    this.#options = options;
    this.#identity = generateIdentity('agent', options.id);
    this.#token = options.token;
    this.swarm = options.swarm;
  }

  get publicKey(): string {
    return this.#identity.publicKey;
  }

  get registration(): AgentRegistration {
    const architecture = this.#options.architecture ?? 'x86_64';
    return {
      agentId: this.id,
      bootId: this.#bootId,
      rpcVersion: rpcVersions.beginBatch,
      version: '0.1.0',
      architecture,
      resourceGroup: 'default',
      backend: this.#options.backend ?? 'fake',
      address: this.#address,
      dataAddress: '127.0.0.1:1',
      slots: this.#options.slots ?? { cpu: '4', mem: '4294967296' },
      images: this.#options.images ?? [
        {
          name: 'local/python:3.11',
          aliases: ['python:3.11', 'python'],
          architecture,
          language: 'python',
          minSlots: { cpu: '1', mem: '67108864' },
        },
      ],
      isolation: { ...simulated, egress: this.#options.enforcesEgress ? 'enforced' : 'open' },
      features: [...(this.#options.features ?? [])],
      ...(this.swarm ? { swarm: this.swarm } : {}),
    };
  }

  get isUp(): boolean {
    return this.#client !== undefined;
  }

  get api(): RpcClient<AgentGatewayRouter>['api'] {
    if (!this.#client) throw new Error('the fake agent is down');
    return this.#client.api;
  }

  /** Serves, joins, registers and tells the truth once. */
  async start(managerAddress = this.#options.managerAddress): Promise<void> {
    const { managerKey, logger, link } = this.#options;
    names += 1;
    this.#server = createRpcServer({
      router: createAgentRouter(link?.(this) ?? this),
      identity: this.#identity,
      directory: pinnedKeys('manager', [managerKey]),
      allow: ['manager'],
      logger,
    });
    this.#address = this.#server.listenInProcess(`fake-agent-${names}`).address;
    this.#client = createRpcClient<AgentGatewayRouter>({
      address: managerAddress,
      identity: this.#identity,
      serverKeys: [managerKey],
      ...(this.#token === undefined ? {} : { token: this.#token }),
      metas: gatewayMetas,
      logger,
    });
    await this.#inRequest(async () => {
      const { ackedSeq } = await this.api.register.mutate(this.registration);
      this.#token = undefined;
      this.#outbox = this.#outbox.filter((event) => event.seq > ackedSeq);
      this.#seq = Math.max(this.#seq, ackedSeq);
    });
    await this.flush();
    await this.heartbeat();
    const beat = (): Promise<void> => this.heartbeat().then(() => this.flush());
    const timer = setInterval(() => void beat().catch(() => {}), heartbeatMs);
    this.#stopBeating = () => clearInterval(timer);
  }

  /** Goes away; kernels stay, or die with it. */
  async stop(options: { loseKernels?: boolean } = {}): Promise<void> {
    const [server, client] = [this.#server, this.#client];
    this.#server = undefined;
    this.#client = undefined;
    this.#stopBeating?.();
    await client?.close();
    await server?.close({ graceMs: 0 });
    if (options.loseKernels) {
      this.starts = this.starts.filter((kernelId) => !this.kernels.has(kernelId));
      this.kernels.clear();
    }
    this.#bootId = newId();
  }

  async heartbeat(): Promise<string[]> {
    const { unknownKernels } = await this.#inRequest(() => this.api.heartbeat.mutate(this.takeHeartbeat()));
    // As agents do: it has ended, and an order for it that comes late does not start it again.
    for (const kernelId of unknownKernels) if (this.kernels.delete(kernelId)) this.ended.add(kernelId);
    return unknownKernels;
  }

  takeHeartbeat() {
    return {
      agentId: this.id,
      bootId: this.#bootId,
      kernels: [...this.kernels.values()].map((kernel) => this.#report(kernel)),
      lastEventSeq: this.#seq,
      ...(this.measurements ? { measurements: this.measurements } : {}),
      ...(this.machine ? { machine: this.machine } : {}),
    };
  }

  /** Delivers what is in the outbox. */
  async flush(): Promise<void> {
    while (this.#flushing) await this.#flushing;
    if (this.holdEvents || !this.#client || this.#outbox.length === 0) return;
    const client = this.#client;
    const events = this.#outbox.slice(0, 500);
    this.#flushing = this.#inRequest(() => client.api.reportEvents.mutate({ agentId: this.id, events }))
      .then(({ ackedSeq }) => {
        this.#delivered.push(...this.#outbox.filter((event) => event.seq <= ackedSeq));
        this.#outbox = this.#outbox.filter((event) => event.seq > ackedSeq);
      })
      .catch(() => {})
      .finally(() => {
        this.#flushing = undefined;
      });
    await this.#flushing;
    if (this.#outbox.length > 0 && this.#client === client) await new Promise((resolve) => setImmediate(resolve));
    if (this.#outbox.length > 0 && this.#client === client) await this.flush();
  }

  /** What was delivered arrives once more, as after a lost answer. */
  async repeatEvents(): Promise<void> {
    const events = this.#delivered.slice(-50);
    if (events.length > 0) await this.#inRequest(() => this.api.reportEvents.mutate({ agentId: this.id, events }));
  }

  /** An old heartbeat arrives late. */
  async repeatHeartbeat(): Promise<void> {
    const heartbeat = this.#oldHeartbeat;
    this.#oldHeartbeat = this.takeHeartbeat();
    if (heartbeat) await this.#inRequest(() => this.api.heartbeat.mutate(heartbeat));
  }

  /** What was not delivered never will be, as after the loss of its disk; it goes on as if it had been. */
  loseEvents(): void {
    this.#seq -= this.#outbox.length;
    this.#outbox = [];
  }

  get outbox(): readonly KernelEvent[] {
    return this.#outbox;
  }

  /** The main program of a kernel ends by itself. */
  exit(kernelId: string, exitCode = 0, reason: StatusReason = 'self-terminated'): void {
    const kernel = this.kernels.get(kernelId);
    if (!kernel) return;
    this.kernels.delete(kernelId);
    const metrics = this.lastMetrics.get(kernel.spec.kernelId);
    const left = {
      log: this.output,
      ...(metrics ? { metrics } : {}),
      ...(this.console ? { console: this.console } : {}),
    };
    this.#emit(kernel, { type: 'kernel-terminated', reason, exitCode, ...left });
  }

  /** The job of a batch session ends. */
  finishBatch(kernelId: string, result: 'success' | 'failure'): void {
    const kernel = this.kernels.get(kernelId);
    if (!kernel) return;
    const [exitCode, reason] = result === 'success' ? ([0, 'task-finished'] as const) : ([1, 'task-failed'] as const);
    this.#emit(kernel, { type: 'batch-finished', result, exitCode, reason });
  }

  /** Of a kernel whose start `stall` left open. */
  tell(kernelId: string, event: { readonly type: KernelEvent['type'] } & Record<string, unknown>): void {
    const kernel = this.kernels.get(kernelId);
    if (kernel) this.#emit(kernel, event);
  }

  /** What `stall` left open. */
  finishStart(kernelId: string): void {
    const kernel = this.kernels.get(kernelId);
    if (kernel?.state === 'preparing') this.#started(kernel);
  }

  async createKernel(spec: KernelSpec, ctx: Parameters<AgentService['createKernel']>[1]): Promise<{ accepted: true }> {
    this.#admit(ctx.headers.epoch);
    this.createCalls.push({ kernelId: spec.kernelId, requestId: ctx.requestId, epoch: ctx.headers.epoch });
    if (this.behaviour === 'refuse') throw new AppError('insufficient-capacity', 'The agent is full.');
    if (this.behaviour === 'lose-order') await untilAborted(ctx.signal);
    // It becomes the kernel, or it is one that died: then the kernel starts without it.
    if (this.warmSlots.delete(spec.kernelId)) this.claims.push(spec.kernelId);
    if (this.kernels.has(spec.kernelId)) return { accepted: true };
    const kernel: FakeKernel = { spec, requestId: ctx.requestId, state: 'preparing', exitCode: null, reason: null };
    // As agents do: what has ended is not started again, its end is told again.
    if (this.ended.has(spec.kernelId)) {
      this.#emit(kernel, { type: 'kernel-terminated', reason: 'self-terminated', exitCode: null });
      return { accepted: true };
    }
    this.kernels.set(spec.kernelId, kernel);
    this.starts.push(spec.kernelId);
    this.#emit(kernel, { type: 'kernel-preparing' });
    if (this.behaviour === 'stall') return { accepted: true };
    if (this.behaviour === 'fail') {
      this.kernels.delete(spec.kernelId);
      // Over: as agents do, it starts again what it is told to start again before its failure is known.
      this.starts.pop();
      const error = new AppError('kernel-start-failed', this.failure).toBody();
      this.#emit(kernel, { type: 'kernel-start-failed', error, failedStep: 'launch', log: this.output });
      return { accepted: true };
    }
    this.#started(kernel);
    if (this.behaviour === 'lose-answer') await untilAborted(ctx.signal);
    return { accepted: true };
  }

  #started(kernel: FakeKernel): void {
    this.#emit(kernel, { type: 'kernel-creating' });
    kernel.state = 'running';
    this.#emit(kernel, { type: 'kernel-started', steps: [{ step: 'launch', ms: 1 }], isolation: simulated });
  }

  async destroyKernel(
    input: { kernelId: string; reason: string; forced: boolean },
    ctx: Parameters<AgentService['createKernel']>[1],
  ): Promise<{ accepted: true }> {
    this.#admit(ctx.headers.epoch);
    const { kernelId, forced } = input;
    this.destroyCalls.push({ kernelId, requestId: ctx.requestId, forced, epoch: ctx.headers.epoch });
    if (this.destroyBehaviour === 'ignore') return { accepted: true };
    const kernel = this.kernels.get(input.kernelId);
    if (kernel) {
      this.kernels.delete(input.kernelId);
      this.#emit(kernel, {
        type: 'kernel-terminated',
        reason: input.reason,
        exitCode: 137,
        log: this.output,
      });
    } else {
      this.#push({
        type: 'kernel-terminated',
        kernelId: input.kernelId,
        sessionId: newId(),
        requestId: requireRequestId(),
        reason: input.reason,
        exitCode: null,
      });
    }
    return { accepted: true };
  }

  async ensureClusterNetwork({ sessionId }: { sessionId: string }, ctx: CallContext): Promise<{ network: string }> {
    this.#admit(ctx.headers.epoch);
    this.networks.add(sessionId);
    return { network: `network-${sessionId}` };
  }

  async removeClusterNetwork({ sessionId }: { sessionId: string }, ctx: CallContext): Promise<void> {
    this.#admit(ctx.headers.epoch);
    const refusal = this.networkRefusals.shift();
    if (refusal) throw refusal;
    this.networks.delete(sessionId);
  }

  /** Tells what it offers once more. */
  async register(): Promise<void> {
    await this.#inRequest(() => this.api.register.mutate(this.registration));
  }

  async beginBatch({ kernelId }: { kernelId: string }): Promise<{ accepted: true }> {
    this.#kernel(kernelId);
    if (!this.losesBegins) this.begun.push(kernelId);
    return { accepted: true };
  }

  async checkKernel({ kernelId }: { kernelId: string }): Promise<KernelReport> {
    return this.#report(this.#kernel(kernelId));
  }

  async execute(input: Parameters<AgentService['execute']>[0]): Promise<Awaited<ReturnType<AgentService['execute']>>> {
    const words = input.mode === 'continue' && input.runId ? this.lastWords.get(input.runId) : undefined;
    if (words) return words;
    this.#kernel(input.kernelId);
    return {
      runId: input.runId ?? 'run-1',
      status: 'finished',
      exitCode: 0,
      options: null,
      console: [['stdout', input.code]],
      cursor: input.code.length,
      notices: [],
    };
  }

  async interrupt({ kernelId }: { kernelId: string }): Promise<void> {
    this.#kernel(kernelId);
  }

  async services({ kernelId }: { kernelId: string }): Promise<[]> {
    this.#kernel(kernelId);
    return [];
  }

  async startService({ kernelId }: { kernelId: string }): Promise<{ status: 'running'; ports: number[] }> {
    this.#kernel(kernelId);
    return { status: 'running', ports: [8080] };
  }

  async stopService({ kernelId }: { kernelId: string }): Promise<void> {
    this.#kernel(kernelId);
  }

  async complete({ kernelId }: { kernelId: string }): Promise<{ completions: string[] }> {
    this.#kernel(kernelId);
    return { completions: ['print'] };
  }

  async logs({ kernelId }: { kernelId: string }): Promise<{ logs: string }> {
    this.#kernel(kernelId);
    return { logs: this.output };
  }

  /** Of an ended kernel, too, until this agent forgets: see `forgetsLogs`. */
  async readLog({ kernelId, cursor, holdMs }: Parameters<AgentService['readLog']>[0]): Promise<LogChunk> {
    const ended = !this.kernels.has(kernelId);
    if (ended && (this.forgetsLogs || !this.ended.has(kernelId))) this.#kernel(kernelId);
    const from = cursor === null ? 0 : Number(cursor.split('-')[1]);
    const written = (): string => this.output.slice(from, from + 10);
    if (!ended) await waitFor(() => written() !== '', { timeoutMs: Math.min(holdMs, 100) }).catch(() => {});
    const text = written();
    const next = text === '' ? cursor : `7-${from + text.length}-0`;
    return { text, cursor: next, missed: false, ended: ended && text === '' };
  }

  async listFiles({ kernelId }: { kernelId: string }): Promise<{ abspath: string; files: [] }> {
    this.#kernel(kernelId);
    return { abspath: '/home/work', files: [] };
  }

  async openTransfer({ kernelId }: { kernelId: string }): Promise<Awaited<ReturnType<AgentService['openTransfer']>>> {
    this.#kernel(kernelId);
    return {
      ticket: newId(),
      address: '127.0.0.1:1',
      size: null,
      expiresAt: new Date(Date.now() + 60_000).toISOString(),
    };
  }

  /** What `checkImage` says of images it was not asked to fetch or to remove. */
  readonly imageStates = new Map<string, AgentImageState>();
  readonly pulls: Array<{ image: string; source: ImageSource }> = [];
  readonly purges: string[] = [];

  async checkImage({ image }: { image: string }): Promise<AgentImageState> {
    return this.imageStates.get(image) ?? { state: 'absent', digest: null, progress: null, failure: null };
  }

  /** What becomes of slots that it is to start. */
  warmBehaviour: 'ready' | 'stall' | 'fail' | 'ignore' | 'hang' = 'ready';
  readonly warmSlots = new Map<string, WarmSlotReport>();
  /** Slots that became kernels, in the order of their orders. */
  readonly claims: string[] = [];
  /** Of each time that it was told which slots there are to be. */
  readonly wishes: WarmSlotSpec[][] = [];

  async keepWarmSlots({ slots, claimed = [] }: WarmSlotsInput, ctx: CallContext): Promise<{ slots: WarmSlotReport[] }> {
    this.#admit(ctx.headers.epoch);
    this.wishes.push(slots);
    if (this.warmBehaviour === 'hang') await untilAborted(ctx.signal);
    if (this.warmBehaviour === 'ignore' || this.warmBehaviour === 'hang') return { slots: [] };
    const kept = new Set([...slots.map(({ slotId }) => slotId), ...claimed]);
    for (const slotId of this.warmSlots.keys()) if (!kept.has(slotId)) this.warmSlots.delete(slotId);
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
    await this.#inRequest(() => this.api.reportWarmSlots.mutate({ agentId: this.id, slots }));
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

  /** Kernels whose programs stand still. */
  readonly paused = new Set<string>();
  /** Thrown instead of pausing. */
  refusePause: AppError | undefined;

  async pauseKernel({ kernelId }: { kernelId: string }): Promise<void> {
    this.#kernel(kernelId);
    if (this.refusePause) throw this.refusePause;
    this.paused.add(kernelId);
  }

  async resumeKernel({ kernelId }: { kernelId: string }): Promise<void> {
    this.#kernel(kernelId);
    this.paused.delete(kernelId);
  }

  /** What `checkCommit` says; orders begin with `committing` and end by the test. */
  readonly commits = new Map<string, KernelCommitState>();
  readonly commitOrders: Array<KernelCommit & { kernelId: string }> = [];

  async commitKernel(input: KernelCommit & { kernelId: string }): Promise<{ accepted: true }> {
    this.#kernel(input.kernelId);
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
    const kernels = [...this.kernels.values()].map((kernel) => this.#report(kernel));
    return { agentId: this.id, bootId: this.#bootId, version: '0.1.0', kernels };
  }

  #kernel(kernelId: string): FakeKernel {
    const kernel = this.kernels.get(kernelId);
    if (!kernel) throw new AppError('kernel-not-found', 'There is no such kernel here.');
    return kernel;
  }

  #admit(epoch: number | undefined): void {
    if ((epoch ?? 0) < this.highestEpoch) throw new AppError('stale-epoch', 'An old leader.');
    this.highestEpoch = epoch ?? 0;
  }

  #report(kernel: FakeKernel): KernelReport {
    const { kernelId, sessionId, slots } = kernel.spec;
    const { state, exitCode, reason, requestId } = kernel;
    const batchWaits = state === 'running' && kernel.spec.batch?.onOrder === true && !this.begun.includes(kernelId);
    return {
      ...(batchWaits ? { batchWaits } : {}),
      ...(this.paused.has(kernelId) ? { paused: true } : {}),
      kernelId,
      sessionId,
      state,
      slots,
      exitCode,
      reason,
      requestId,
      isolation: simulated,
    };
  }

  #emit(kernel: FakeKernel, event: Record<string, unknown>): void {
    const { kernelId, sessionId } = kernel.spec;
    this.#push({ ...event, kernelId, sessionId, requestId: kernel.requestId } as UnnumberedEvent);
  }

  #push(event: UnnumberedEvent): void {
    if (event.type === 'kernel-terminated' || event.type === 'kernel-start-failed') this.ended.add(event.kernelId);
    this.#seq += 1;
    this.#outbox.push({ ...event, seq: this.#seq, at: new Date().toISOString() } as KernelEvent);
    void this.flush();
  }

  #inRequest<T>(work: () => Promise<T>): Promise<T> {
    return runWithRequest({ requestId: newId() }, work);
  }
}

function untilAborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(new AppError('cancelled', 'The caller went away.')), { once: true });
  });
}
