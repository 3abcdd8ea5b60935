import { randomUUID } from 'node:crypto';
import type {
  ConsoleItem,
  ConsoleKind,
  CreateSessionInput,
  RunResult,
  SessionDetailsView,
  SessionExplanation,
  SessionIdleView,
  SessionStatisticsView,
} from '@backend.ai/contract';
import { AppError, type ErrorBody, type SessionStatus } from '@backend.ai/core';

/** What a scripted program sees of the world. */
export interface ProgramIo {
  readonly print: (text: string, kind?: ConsoleKind) => void;
  /** The next input, null at end-of-file. */
  readonly read: () => Promise<string | null>;
  readonly notice: (body: ErrorBody) => void;
  readonly interrupted: AbortSignal;
}

/** Stands for the interpreter: gets a snippet or a shell command, answers with the exit code. */
export type Program = (code: string, io: ProgramIo, session: FakeSession) => number | Promise<number>;

interface FakeRun {
  readonly id: string;
  /** Output, and null where the program asked for input. */
  readonly journal: (ConsoleItem | null)[];
  readonly mode: string;
  readonly notices: ErrorBody[];
  readonly inputs: (string | null)[];
  readonly interrupt: AbortController;
  waiting: boolean;
  exitCode: number | null;
  /** Resolved and replaced at each change. */
  changed: PromiseWithResolvers;
}

interface PromiseWithResolvers {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

function later(): PromiseWithResolvers {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}

export interface ExecuteCall {
  readonly mode: 'query' | 'batch' | 'continue' | 'input';
  readonly runId?: string | null | undefined;
  readonly code: string;
  readonly options: { readonly exec?: string | null | undefined; readonly eof?: boolean | undefined };
  readonly cursor?: number | undefined;
  readonly holdMs: number;
}

/** A session whose programs are functions. Its journal counts items where the real one counts bytes. */
export class FakeSession {
  view: SessionDetailsView;
  readonly environ: Record<string, string>;
  /** What the scheduler would say of it. */
  waiting: SessionExplanation['waiting'] = null;
  reserved: SessionExplanation['reserved'] = null;
  /** What idle checkers say of it. */
  idleChecks: SessionIdleView['checks'] = [];
  placement: SessionExplanation['placement'] = null;
  /** What followers of its log get, line by line. */
  output: string[] = [];
  /** What its kernels use. */
  use: SessionStatisticsView['kernels'] = [];
  readonly files = new Map<string, Buffer>();
  /** What `archive` of a path answers: tars made by the test. */
  readonly archives = new Map<string, Buffer>();
  readonly executions: ExecuteCall[] = [];
  readonly #program: Program;
  readonly #runs = new Map<string, FakeRun>();

  constructor(input: CreateSessionInput, accessKey: string, requestId: string, program: Program) {
    this.#program = program;
    this.environ = input.environ;
    const now = new Date().toISOString();
    const id = randomUUID();
    this.view = {
      id,
      name: input.name ?? `s-${id.slice(0, 8)}`,
      type: input.type,
      status: 'PENDING',
      reason: { code: 'queued', message: 'It was just queued and is considered next.', data: null },
      pull: null,
      result: 'undefined',
      image: input.image,
      architecture: 'x86_64',
      tag: input.tag ?? null,
      domain: input.domain ?? 'default',
      project: input.project ?? 'default',
      projectId: randomUUID(),
      resourceGroup: 'default',
      userId: randomUUID(),
      accessKey,
      options: {
        clusterMode: input.clusterMode,
        clusterSize: input.clusterSize,
        priority: input.priority,
        jobPriority: input.jobPriority,
        isPreemptible: input.isPreemptible,
        failurePolicy: input.failurePolicy ?? 'strict',
        startsAt: input.startsAt ?? null,
        timeoutMs: input.timeoutMs ?? null,
        callbackUrl: input.callbackUrl ?? null,
        preopenPorts: input.preopenPorts,
        shmem: null,
        designatedAgents: input.designatedAgents,
      },
      requested: Object.fromEntries(Object.entries(input.resources).map(([slot, amount]) => [slot, String(amount)])),
      kernels: [],
      createdAt: now,
      statusChangedAt: now,
      pausedAt: null,
      startedAt: null,
      terminatedAt: null,
      timings: { scheduledMs: null, runningMs: null, endedMs: null, steps: [] },
      requestId,
      environ: input.environ,
      startupCommand: input.startupCommand ?? null,
      bootstrapScript: input.bootstrapScript ?? null,
      dependencies: input.dependencies,
    };
  }

  enter(status: SessionStatus, code: string, message: string): void {
    this.view = { ...this.view, status, reason: { code, message, data: null } };
    if (status === 'TERMINATED' || status === 'ERROR') {
      for (const run of this.#runs.values()) run.interrupt.abort();
    }
  }

  statistics(): SessionStatisticsView {
    return { sessionId: this.view.id, name: this.view.name, windowMs: 600_000, kernels: this.use };
  }

  idleness(): SessionIdleView {
    return { sessionId: this.view.id, name: this.view.name, checks: this.idleChecks };
  }

  explanation(): SessionExplanation {
    const { id: sessionId, name, status, reason, createdAt: at } = this.view;
    const { code, message } = reason;
    const headline = `${name} is ${status}: ${message}`;
    const reasons = [{ at, status, code, message }];
    const { waiting, reserved, placement } = this;
    return { sessionId, name, status, headline, waiting, reserved, placement, reasons };
  }

  async execute(call: ExecuteCall): Promise<RunResult> {
    this.executions.push(call);
    const run = this.#runOf(call);
    if (call.mode === 'input') {
      if (run.exitCode !== null || (run.mode === 'query' && !run.waiting)) {
        throw new AppError('state-conflict', 'The execution does not wait for input.');
      }
      run.waiting = false;
      run.inputs.push(call.options.eof ? null : call.code);
      signal(run);
    }
    const from = call.cursor ?? 0;
    const idle = (): boolean => run.journal.length <= from && run.exitCode === null;
    const until = Date.now() + call.holdMs;
    while (idle() && Date.now() < until) {
      await Promise.race([
        run.changed.promise,
        new Promise((resolve) => setTimeout(resolve, Math.max(1, until - Date.now())).unref()),
      ]);
    }
    const page = run.journal.slice(from, from + 3);
    const question = page.indexOf(null);
    const waiting = question >= 0;
    const taken = waiting ? page.slice(0, question + 1) : page;
    const console = taken.filter((item) => item !== null);
    const cursor = from + taken.length;
    const finished = !waiting && run.exitCode !== null && cursor === run.journal.length;
    return {
      runId: run.id,
      status: finished ? 'finished' : waiting ? 'waiting-input' : 'continued',
      exitCode: finished ? run.exitCode : null,
      options: waiting ? { is_password: false } : null,
      console,
      cursor,
      notices: [...run.notices],
    };
  }

  interrupt(): void {
    for (const run of this.#runs.values()) run.interrupt.abort();
  }

  #runOf(call: ExecuteCall): FakeRun {
    const id = call.runId ?? randomUUID();
    const known = this.#runs.get(id);
    if (call.mode === 'continue' || call.mode === 'input') {
      if (!known) throw new AppError('run-not-found', 'There is no such run.');
      return known;
    }
    if (known) throw new AppError('kernel-busy', 'This run exists already.');
    const run: FakeRun = {
      id,
      mode: call.mode,
      journal: [],
      notices: [],
      inputs: [],
      interrupt: new AbortController(),
      waiting: false,
      exitCode: null,
      changed: later(),
    };
    this.#runs.set(id, run);
    run.interrupt.signal.addEventListener('abort', () => signal(run));
    const io: ProgramIo = {
      print: (text, kind = 'stdout') => {
        run.journal.push([kind, text]);
        signal(run);
      },
      read: async () => {
        if (run.inputs.length === 0) {
          run.waiting = true;
          if (run.mode === 'query') run.journal.push(null);
          signal(run);
        }
        while (run.inputs.length === 0 && !run.interrupt.signal.aborted) await run.changed.promise;
        return run.inputs.shift() ?? null;
      },
      notice: (body) => run.notices.push(body),
      interrupted: run.interrupt.signal,
    };
    void Promise.resolve(this.#program(call.mode === 'query' ? call.code : (call.options.exec ?? ''), io, this)).then(
      (code) => {
        run.exitCode = run.interrupt.signal.aborted ? 130 : code;
        signal(run);
      },
    );
    return run;
  }
}

function signal(run: FakeRun): void {
  const { resolve } = run.changed;
  run.changed = later();
  resolve();
}
