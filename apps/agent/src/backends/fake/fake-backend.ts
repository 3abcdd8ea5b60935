import type { Duplex } from 'node:stream';
import type {
  BatchEnd,
  CompleteInput,
  CompleteResult,
  ExecuteInput,
  Image,
  IsolationReport,
  KernelBatch,
  KernelSpec,
  RunResult,
  ServicePort,
} from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  type Deferred,
  deferred,
  delay,
  newId,
  parseResourceSlots,
  type ResourceSlots,
  type StatusReason,
} from '@backend.ai/core';
import type { ConsoleLog, OpenLog } from '../../files/console-log.ts';
import { plainInventory } from '../../resources/machine-inventory.ts';
import { preopenServices } from '../../services/service-ports.ts';
import type {
  Backend,
  BackendCapabilities,
  BackendWarmSlots,
  CreateStep,
  KernelEnd,
  KernelHandle,
  KernelPlan,
  KernelUsage,
  RecoveredKernel,
  Stray,
} from '../backend.ts';
import { slotAsKernel, suitsSlot } from '../slot-as-kernel.ts';

/** How a simulated kernel behaves, besides what its spec says. All times are on the injected clock. */
export interface FakeScript {
  /** What each step takes, in milliseconds; zero when not named. */
  readonly stepDelayMs?: Readonly<Record<string, number>>;
  /** The step that fails. */
  readonly failStep?: string;
  readonly stopDelayMs?: number;
  /** What a batch job takes, in milliseconds. */
  readonly batchMs?: number;
  /** Instead of the echo described at `FakeKernel`. */
  readonly execute?: (input: ExecuteInput) => Promise<RunResult> | RunResult;
  /** Instead of no use at all. Asked at each measurement. */
  readonly measure?: () => Promise<KernelUsage> | KernelUsage;
}

export interface FakeBackendOptions {
  readonly clock: Clock;
  readonly slots?: ResourceSlots | undefined;
  readonly images?: readonly Image[] | undefined;
  /** Asked once per kernel. */
  readonly script?: ((spec: KernelSpec) => FakeScript) | undefined;
}

/** The same names as on the process backend, so that whatever looks at them works with both. */
export const fakeSteps = [
  'make-scratch',
  'allocate-uid',
  'make-cgroups',
  'write-facts',
  'launch',
  'await-runner',
] as const;

export const simulatedIsolation: IsolationReport = {
  sandbox: 'simulated',
  ownUid: false,
  memory: 'none',
  processes: 'none',
  cpu: 'none',
  network: 'isolated',
  // They call nobody.
  egress: 'enforced',
};

const minSlots = { cpu: '1', mem: String(64 * 1024 * 1024) };
const fakeImages: readonly Image[] = [
  { name: 'local/python:3.11', aliases: ['python:3.11', 'python:3', 'python'], language: 'python' as const },
  { name: 'local/node:20', aliases: ['node:20', 'node'], language: 'node' as const },
  { name: 'local/shell', aliases: ['shell'], language: 'shell' as const },
].map((image) => ({ ...image, architecture: 'x86_64', minSlots }));

/**
 * Simulated kernels: the same steps, events and states as real ones, without processes or files, in time that may stand
 * still. They end with this process.
 */
export class FakeBackend implements Backend {
  readonly kind = 'fake';
  readonly capabilities: BackendCapabilities;
  readonly #options: FakeBackendOptions;
  /** What exists of each kernel: the steps that have run and were not undone. For tests. */
  readonly remains = new Map<string, Set<string>>();
  readonly #kernels = new Set<FakeKernel>();

  constructor(options: FakeBackendOptions) {
    this.#options = options;
    this.capabilities = {
      isolation: simulatedIsolation,
      images: options.images ?? fakeImages,
      inventory: plainInventory(options.slots ?? parseResourceSlots({ cpu: 64, mem: '256g' })),
      adoption: false,
    };
  }

  async start(): Promise<void> {}

  async recover(): Promise<RecoveredKernel[]> {
    return [];
  }

  async strays(isKnown: (kernelId: string) => boolean): Promise<Stray[]> {
    const strays = [...this.remains.keys()].filter((kernelId) => !isKnown(kernelId));
    return strays.map((kernelId) => ({
      name: `kernel ${kernelId}`,
      kernelId,
      since: null,
      remove: async () => void this.remains.delete(kernelId),
    }));
  }

  async expire(): Promise<void> {}

  readonly warmSlots: BackendWarmSlots = {
    recover: async () => [],
    plan: (slot, _, resources) => {
      const spec = slotAsKernel(slot);
      const plan = this.plan(spec);
      return {
        ...plan,
        resources,
        claim: (order) => (suitsSlot(order, slot) ? this.#claim(order, plan) : undefined),
      };
    },
  };

  plan(spec: KernelSpec): KernelPlan {
    const { images } = this.capabilities;
    if (!images.some(({ name, aliases }) => name === spec.image || aliases.includes(spec.image))) {
      throw new AppError('unknown-image', `This agent does not offer the image "${spec.image}".`);
    }
    return this.#planOf(spec, [...fakeSteps], 'await-runner');
  }

  /** As on real backends: what the slot is made of stays, and its runner gets what the order has besides. */
  #claim(order: KernelSpec, slot: KernelPlan): KernelPlan {
    const { steps, ...plan } = this.#planOf(order, ['claim-slot', 'hand-over'], 'hand-over');
    return { ...plan, steps: [...slot.steps.map((step) => ({ ...step, made: true as const })), ...steps] };
  }

  /** @param last The step after which it runs. */
  #planOf(spec: KernelSpec, names: readonly string[], last: string): KernelPlan {
    const script = this.#options.script?.(spec) ?? {};
    let kernel: FakeKernel | undefined;
    const start = (): void => {
      kernel = new FakeKernel(spec, script, this.#options.clock);
      this.#kernels.add(kernel);
    };
    const steps: CreateStep[] = names.map((name) => this.#step(name, spec, script, name === last ? start : undefined));
    if (spec.bootstrap) steps.push(this.#step('bootstrap', spec, script, () => bootstrap(spec.bootstrap?.script)));
    return {
      steps,
      launchStep: 'launch',
      handle: () => {
        if (!kernel) throw new AppError('internal', 'The kernel has not been started.');
        return kernel;
      },
      launched: () => kernel ?? null,
    };
  }

  async close(): Promise<void> {
    for (const kernel of this.#kernels) kernel.close();
    this.#kernels.clear();
  }

  #step(name: string, spec: KernelSpec, script: FakeScript, done?: () => void): CreateStep {
    const { clock } = this.#options;
    const { kernelId, fake } = spec;
    const ownDelayMs = script.stepDelayMs?.[name] ?? 0;
    const delayMs = ownDelayMs + (name === 'launch' ? (fake?.startDelayMs ?? 0) : 0);
    return {
      name,
      run: async (signal) => {
        const made = this.remains.get(kernelId) ?? new Set<string>();
        this.remains.set(kernelId, made.add(name));
        if (delayMs > 0) await delay(clock, delayMs, signal);
        if (signal.aborted) throw new AppError('cancelled', 'The start was cancelled.');
        if (name === fake?.failStep || name === script.failStep) {
          throw new AppError('kernel-start-failed', `The simulated step "${name}" failed.`, { data: { step: name } });
        }
        done?.();
      },
      undo: () => {
        const made = this.remains.get(kernelId);
        made?.delete(name);
        if (made?.size === 0) this.remains.delete(kernelId);
      },
    };
  }
}

/**
 * Executes nothing and echoes, in a way that callers can steer:
 * - code `exit N` finishes with exit code N; `input PROMPT` prints PROMPT, asks, and echoes the answer;
 * - code `die N` ends the kernel with exit code N;
 * - anything else is printed to stdout with a newline, and finishes with 0; a batch prints its `exec` command.
 * A batch job and a bootstrap script are such code, too.
 */
class FakeKernel implements KernelHandle {
  readonly isolation = simulatedIsolation;
  paused = false;
  readonly files = null;
  readonly console: ConsoleLog = { open: () => textLog(this.#written, this.#log) };
  readonly servicePorts: readonly ServicePort[];
  readonly ended: Promise<KernelEnd>;
  readonly #ended: Deferred<KernelEnd> = deferred<KernelEnd>();
  readonly #script: FakeScript;
  readonly #clock: Clock;
  readonly #results = new Map<string, RunResult>();
  readonly #asking = new Set<string>();
  readonly #batchMs: number;
  #batchBegan = false;
  readonly #over = new AbortController();
  #log = '';
  /** Bytes in all, with those that are not kept. */
  #written = 0;
  #cancelExit: (() => void) | undefined;

  constructor(spec: KernelSpec, script: FakeScript, clock: Clock) {
    this.#script = script;
    this.#clock = clock;
    this.ended = this.#ended.promise;
    this.servicePorts = preopenServices(spec);
    const { exitAfterMs, exitCode = 0, batchMs = 0 } = spec.fake ?? {};
    this.#batchMs = script.batchMs ?? batchMs;
    if (exitAfterMs === undefined) return;
    this.#cancelExit = clock.setTimer(exitAfterMs, () => this.#ended.resolve({ exitCode, reason: 'self-terminated' }));
  }

  async pause(): Promise<void> {
    this.paused = true;
  }

  async resume(): Promise<void> {
    this.paused = false;
  }

  async execute(input: ExecuteInput): Promise<RunResult> {
    if (this.#script.execute) return await this.#script.execute(input);
    const runId = input.runId ?? newId();
    if (input.mode === 'continue') {
      const result = this.#results.get(runId);
      if (!result) throw new AppError('run-not-found', 'The kernel keeps no output of this execution.');
      return { ...result, console: [] };
    }
    if (input.mode === 'input') {
      if (!this.#asking.delete(runId)) throw new AppError('state-conflict', 'The execution does not wait for input.');
      return this.#remember(finished(runId, `${input.code}\n`, 0));
    }
    const code = input.mode === 'batch' ? (input.options.exec ?? '') : input.code;
    const [, word, rest = ''] = /^(exit|input|die)\b *(.*)$/s.exec(code.trim()) ?? [];
    if (word === 'exit') return this.#remember(finished(runId, '', Number(rest) || 0));
    if (word === 'input') {
      this.#asking.add(runId);
      const question = { ...finished(runId, rest, 0), status: 'waiting-input' as const, exitCode: null };
      return this.#remember({ ...question, options: { is_password: false } });
    }
    if (word === 'die') {
      const exitCode = Number(rest) || 1;
      this.#ended.resolve({ exitCode, reason: 'self-terminated' });
      return finished(runId, '', exitCode);
    }
    return this.#remember(finished(runId, `${code}\n`, 0));
  }

  get batchBegan(): boolean {
    return this.#batchBegan;
  }

  async runBatch({ startupCommand, timeoutMs }: KernelBatch, signal: AbortSignal): Promise<BatchEnd | null> {
    this.#batchBegan = true;
    const batchMs = this.#batchMs;
    const late = timeoutMs !== undefined && batchMs > timeoutMs;
    const over = AbortSignal.any([signal, this.#over.signal]);
    await delay(this.#clock, late ? timeoutMs : batchMs, over);
    if (over.aborted) return null;
    if (late) return { result: 'failure', exitCode: -2, reason: 'task-timeout' };
    const exitCode = exitCodeIn(startupCommand) ?? 0;
    this.#write(`${startupCommand}\n`);
    return exitCode === 0
      ? { result: 'success', exitCode, reason: 'task-finished' }
      : { result: 'failure', exitCode, reason: 'task-failed' };
  }

  async interrupt(): Promise<void> {}

  async complete({ code }: CompleteInput): Promise<CompleteResult> {
    return { completions: [`${code}_completed`] };
  }

  async logs(maxBytes: number): Promise<string> {
    return this.#log.slice(-maxBytes);
  }

  async lastWords(): Promise<ReadonlyMap<string, RunResult>> {
    return new Map();
  }

  async measure(): Promise<KernelUsage> {
    return (await this.#script.measure?.()) ?? { cpuMs: 0, memoryBytes: 0 };
  }

  async connect(): Promise<Duplex> {
    throw new AppError('unsupported-feature', 'A simulated kernel has no services.');
  }

  get services(): never {
    throw new AppError('unsupported-feature', 'A simulated kernel has no services.');
  }

  async openTerminal(): Promise<Duplex> {
    throw new AppError('unsupported-feature', 'A simulated kernel has no terminals.');
  }

  async stop(reason: StatusReason): Promise<void> {
    this.close();
    if (this.#script.stopDelayMs) await delay(this.#clock, this.#script.stopDelayMs);
    this.#ended.resolve({ exitCode: 137, reason });
  }

  close(): void {
    this.#over.abort();
    this.#cancelExit?.();
  }

  #write(text: string): void {
    this.#log = (this.#log + text).slice(-65_536);
    this.#written += Buffer.byteLength(text);
  }

  #remember(result: RunResult): RunResult {
    this.#results.set(result.runId, result);
    this.#write(result.console.map(([, data]) => data).join(''));
    return result;
  }
}

function textLog(written: number, text: string): OpenLog {
  const data = Buffer.from(text);
  const from = Math.max(0, written - data.length);
  return {
    parts: data.length === 0 ? [] : [{ file: '1', from, bytes: data.length }],
    read: (_part, offset, length) => data.subarray(offset - from, offset - from + length),
    close() {},
  };
}

function exitCodeIn(code: string): number | undefined {
  const [, exitCode] = /^exit +(\d+)$/.exec(code.trim()) ?? [];
  return exitCode === undefined ? undefined : Number(exitCode);
}

/** As on real backends: only a script that ends well makes the kernel run. */
function bootstrap(script = ''): void {
  const exitCode = exitCodeIn(script) ?? 0;
  if (exitCode === 0) return;
  throw new AppError('kernel-start-failed', `The bootstrap script failed with exit code ${exitCode}.`, {
    data: { step: 'bootstrap', exitCode },
  });
}

function finished(runId: string, stdout: string, exitCode: number): RunResult {
  const console: RunResult['console'] = stdout === '' ? [] : [['stdout', stdout]];
  return { runId, status: 'finished', exitCode, options: null, console, cursor: stdout.length, notices: [] };
}
