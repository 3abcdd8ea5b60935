import type {
  AgentService,
  KeptLog,
  KernelEvent,
  KernelReport,
  KernelSpec,
  LogChunk,
  Metrics,
} from '@backend.ai/contract';
import { AppError, newId, type StatusReason } from '@backend.ai/core';
import { requireRequestId } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { FakeLink, simulated, type UnnumberedEvent } from './fake-link.ts';

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

export interface FakeKernel {
  readonly spec: KernelSpec;
  readonly requestId: string;
  state: KernelReport['state'];
  exitCode: number | null;
  reason: StatusReason | null;
}

/** The kernels of a simulated agent, from their order to their end. */
export abstract class FakeKernels extends FakeLink {
  readonly kernels = new Map<string, FakeKernel>();
  readonly createCalls: Array<{ kernelId: string; requestId: string; epoch: number | undefined }> = [];
  /**
   * Kernels that it has started, each time; without those that failed or that it lost, which it may be told to start
   * again.
   */
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
  /** Told with the end of a kernel, by its id. */
  readonly lastMetrics = new Map<string, Metrics>();
  /** Nothing is known of the output of ended kernels, as after a restart. */
  forgetsLogs = false;
  /** Told with the end of kernels. */
  console: KeptLog | undefined;
  destroyBehaviour: 'end' | 'ignore' = 'end';
  /** How runs of ended kernels ended, by run id. */
  readonly lastWords = new Map<string, Awaited<ReturnType<AgentService['execute']>>>();
  /** Where its tickets are redeemed; nothing listens there unless a test does. */
  dataPort = '127.0.0.1:1';
  /** What it says with `fail`. */
  failure = 'It fell over.';
  output = 'hello from the kernel\n';
  highestEpoch = 0;

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
    if (!kernel) return;
    if (event.type === 'kernel-start-failed') this.kernels.delete(kernelId);
    this.#emit(kernel, event);
  }

  /** What `stall` left open. */
  finishStart(kernelId: string): void {
    const kernel = this.kernels.get(kernelId);
    if (kernel?.state === 'preparing') this.#started(kernel);
  }

  async createKernel(spec: KernelSpec, ctx: Parameters<AgentService['createKernel']>[1]): Promise<{ accepted: true }> {
    this.admit(ctx.headers.epoch);
    this.createCalls.push({ kernelId: spec.kernelId, requestId: ctx.requestId, epoch: ctx.headers.epoch });
    if (this.behaviour === 'refuse') throw new AppError('insufficient-capacity', 'The agent is full.');
    if (this.behaviour === 'lose-order') await untilAborted(ctx.signal);
    // It becomes the kernel, or it is one that died: then the kernel starts without it.
    this.takeSlot(spec.kernelId);
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
    this.admit(ctx.headers.epoch);
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
      this.push({
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

  async beginBatch({ kernelId }: { kernelId: string }): Promise<{ accepted: true }> {
    this.kernel(kernelId);
    if (!this.losesBegins) this.begun.push(kernelId);
    return { accepted: true };
  }

  async checkKernel({ kernelId }: { kernelId: string }): Promise<KernelReport> {
    return this.report(this.kernel(kernelId));
  }

  async execute(input: Parameters<AgentService['execute']>[0]): Promise<Awaited<ReturnType<AgentService['execute']>>> {
    const words = input.mode === 'continue' && input.runId ? this.lastWords.get(input.runId) : undefined;
    if (words) return words;
    this.kernel(input.kernelId);
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
    this.kernel(kernelId);
  }

  async services({ kernelId }: { kernelId: string }): Promise<[]> {
    this.kernel(kernelId);
    return [];
  }

  async startService({ kernelId }: { kernelId: string }): Promise<{ status: 'running'; ports: number[] }> {
    this.kernel(kernelId);
    return { status: 'running', ports: [8080] };
  }

  async stopService({ kernelId }: { kernelId: string }): Promise<void> {
    this.kernel(kernelId);
  }

  async complete({ kernelId }: { kernelId: string }): Promise<{ completions: string[] }> {
    this.kernel(kernelId);
    return { completions: ['print'] };
  }

  async logs({ kernelId }: { kernelId: string }): Promise<{ logs: string }> {
    this.kernel(kernelId);
    return { logs: this.output };
  }

  /** Of an ended kernel, too, until this agent forgets: see `forgetsLogs`. */
  async readLog({ kernelId, cursor, holdMs }: Parameters<AgentService['readLog']>[0]): Promise<LogChunk> {
    const ended = !this.kernels.has(kernelId);
    if (ended && (this.forgetsLogs || !this.ended.has(kernelId))) this.kernel(kernelId);
    const from = cursor === null ? 0 : Number(cursor.split('-')[1]);
    const written = (): string => this.output.slice(from, from + 10);
    if (!ended) await waitFor(() => written() !== '', { timeoutMs: Math.min(holdMs, 100) }).catch(() => {});
    const text = written();
    const next = text === '' ? cursor : `7-${from + text.length}-0`;
    return { text, cursor: next, missed: false, ended: ended && text === '' };
  }

  async listFiles({ kernelId }: { kernelId: string }): Promise<{ abspath: string; files: [] }> {
    this.kernel(kernelId);
    return { abspath: '/home/work', files: [] };
  }

  async openTransfer({ kernelId }: { kernelId: string }): Promise<Awaited<ReturnType<AgentService['openTransfer']>>> {
    this.kernel(kernelId);
    return {
      ticket: newId(),
      address: this.dataPort,
      size: null,
      expiresAt: new Date(Date.now() + 60_000).toISOString(),
    };
  }

  /** A warm slot becomes the kernel, if there is one of this id. */
  protected abstract takeSlot(kernelId: string): void;

  protected kernel(kernelId: string): FakeKernel {
    const kernel = this.kernels.get(kernelId);
    if (!kernel) throw new AppError('kernel-not-found', 'There is no such kernel here.');
    return kernel;
  }

  protected admit(epoch: number | undefined): void {
    if ((epoch ?? 0) < this.highestEpoch) throw new AppError('stale-epoch', 'An old leader.');
    this.highestEpoch = epoch ?? 0;
  }

  protected report(kernel: FakeKernel): KernelReport {
    const { kernelId, sessionId, slots } = kernel.spec;
    const { state, exitCode, reason, requestId } = kernel;
    const batchWaits = state === 'running' && kernel.spec.batch?.onOrder === true && !this.begun.includes(kernelId);
    return {
      ...(batchWaits ? { batchWaits } : {}),
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

  protected override reports(): KernelReport[] {
    return [...this.kernels.values()].map((kernel) => this.report(kernel));
  }

  protected override loseKernels(): void {
    this.starts = this.starts.filter((kernelId) => !this.kernels.has(kernelId));
    this.kernels.clear();
  }

  protected override forget(kernelIds: readonly string[]): void {
    // As agents do: it has ended, and an order for it that comes late does not start it again.
    for (const kernelId of kernelIds) if (this.kernels.delete(kernelId)) this.ended.add(kernelId);
  }

  protected override push(event: UnnumberedEvent): void {
    if (event.type === 'kernel-terminated' || event.type === 'kernel-start-failed') this.ended.add(event.kernelId);
    super.push(event);
  }

  #emit(kernel: FakeKernel, event: Record<string, unknown>): void {
    const { kernelId, sessionId } = kernel.spec;
    this.push({ ...event, kernelId, sessionId, requestId: kernel.requestId } as UnnumberedEvent);
  }
}

export function untilAborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(new AppError('cancelled', 'The caller went away.')), { once: true });
  });
}
