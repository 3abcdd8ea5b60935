import type { ChildProcess } from 'node:child_process';
import type { Duplex } from 'node:stream';
import type {
  BatchEnd,
  CompleteInput,
  CompleteResult,
  ExecuteInput,
  IsolationReport,
  KernelBatch,
  RunResult,
} from '@backend.ai/contract';
import { AppError, type Clock, type Deferred, deferred, delay, type StatusReason } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { HomeFiles } from '../../files/home-files.ts';
import { readTail } from '../../files/tail.ts';
import { readCounters } from '../../resources/cgroups.ts';
import { RunnerClient } from '../../runner/index.ts';
import type { KernelEnd, KernelHandle, KernelUsage } from '../backend.ts';
import { runBatchJob } from './batch-job.ts';
import { endProcesses, type KernelProcesses, kernelProcesses } from './end-processes.ts';
import { findInit } from './find-init.ts';
import { connectToPort, connectToService } from './kernel-services.ts';
import { measureKernel } from './measure-kernel.ts';
import type { MemoryWatch } from './memory-watch.ts';
import { ignores, isAlive, readCommandLine, signalProcess } from './proc.ts';
import type { RecentProcesses } from './recent-processes.ts';
import { Runs } from './runs.ts';
import { readSandboxStatus, type ScratchPaths } from './scratch.ts';

export interface ProcessKernelOptions {
  readonly paths: ScratchPaths;
  readonly isolation: IsolationReport;
  readonly processes: KernelProcesses;
  /** Null for an adopted kernel: it is no child of this process. */
  readonly child: ChildProcess | null;
  readonly memoryBytes: number;
  readonly memoryWatch: MemoryWatch;
  readonly recentProcesses: RecentProcesses;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How often an adopted kernel is looked after, in milliseconds; its socket tells sooner. */
const lookMs = 250;
/** Programs that were asked to end have this long. */
const graceMs = 2_000;
/** 128 + SIGKILL. */
const killedExitCode = 137;

/** A kernel whose sandbox has been started, by this process or by an earlier one. */
export class ProcessKernel implements KernelHandle {
  readonly isolation: IsolationReport;
  readonly ended: Promise<KernelEnd>;
  readonly files: HomeFiles;
  readonly #options: ProcessKernelOptions;
  readonly #ended: Deferred<KernelEnd> = deferred<KernelEnd>();
  readonly #killsBefore: number;
  #processes: KernelProcesses;
  readonly #detach: Array<() => void> = [];
  #client: RunnerClient | undefined;
  #runs: Runs | undefined;
  #stopReason: StatusReason | undefined;
  #over = false;
  #cancelLook: (() => void) | undefined;

  constructor(options: ProcessKernelOptions) {
    this.#options = options;
    this.isolation = options.isolation;
    this.ended = this.#ended.promise;
    const { paths, processes, child } = options;
    this.#processes = processes;
    this.files = new HomeFiles({ home: paths.home, staging: paths.folder, uid: processes.uid });
    this.#killsBefore = readCounters(processes.cgroups).outOfMemory;
    if (child) {
      const onExit = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.#end(code ?? (signal ? 137 : null));
      };
      child.once('exit', onExit);
      this.#detach.push(() => child.off('exit', onExit));
      if (child.exitCode !== null || child.signalCode !== null) onExit(child.exitCode, child.signalCode);
    } else {
      this.#detach.push(() => this.#cancelLook?.());
      this.#look();
    }
    this.#watchMemory();
  }

  /** Resolves when the runner has answered; see `RunnerClient.connect`. */
  async connectRunner(deadlineMs: number, signal?: AbortSignal): Promise<void> {
    const { paths, clock, logger } = this.#options;
    const options = { runDirectory: paths.run, ended: this.ended, clock, logger };
    this.#client = await RunnerClient.connect({ ...options, deadlineMs, signal });
    const { isolation } = this.#options;
    this.#processes = { ...this.#processes, init: findInit(paths, isolation.sandbox, this.#processes.monitor) };
    this.#serve(this.#client);
  }

  /** Follows a runner that has answered long ago. */
  followRunner(): void {
    const { paths, clock, logger } = this.#options;
    this.#client = new RunnerClient({ runDirectory: paths.run, ended: this.ended, clock, logger });
    this.#serve(this.#client);
  }

  execute(input: ExecuteInput, signal: AbortSignal | undefined): Promise<RunResult> {
    return this.#requireRuns().execute(input, signal);
  }

  /** See `Runs.exitCodeOf`. */
  async runToEnd(runId: string, command: string, signal: AbortSignal): Promise<number | null> {
    const runs = this.#requireRuns();
    await runs.begin(runId, command);
    return await runs.exitCodeOf(runId, signal);
  }

  runBatch(batch: KernelBatch, signal: AbortSignal): Promise<BatchEnd | null> {
    const { paths, clock } = this.#options;
    const job = { runs: this.#requireRuns(), client: this.#requireClient(), file: paths.batch, clock };
    return runBatchJob(job, batch, signal);
  }

  async interrupt(): Promise<void> {
    await this.#requireClient().interrupt();
  }

  async complete({ code, position }: CompleteInput): Promise<CompleteResult> {
    const completions = await this.#requireClient().complete(code, position, { timeoutMs: 4_000 });
    return { completions };
  }

  async logs(maxBytes: number): Promise<string> {
    const { run } = this.#options.paths;
    const newest = readTail(run, 'console.log', maxBytes);
    const older = newest.length < maxBytes ? readTail(run, 'console.log.1', maxBytes - newest.length) : Buffer.alloc(0);
    return Buffer.concat([older, newest]).toString('utf8');
  }

  async lastWords(): Promise<ReadonlyMap<string, RunResult>> {
    return (await this.#runs?.lastWords()) ?? new Map();
  }

  connect(target: { readonly port: number } | { readonly service: string }): Promise<Duplex> {
    const { paths, processes } = this.#options;
    if ('service' in target) return connectToService(paths.run, target.service);
    return connectToPort(target.port, processes.uid, () => kernelProcesses(processes));
  }

  measure(): Promise<KernelUsage> {
    const { recentProcesses, isolation } = this.#options;
    return measureKernel(this.#processes, () => recentProcesses.get(), isolation.sandbox === 'none');
  }

  async stop(reason: StatusReason, forced: boolean): Promise<void> {
    this.#stopReason ??= reason;
    if (!forced) await this.#askToEnd();
    await this.kill();
    // The exit of the monitor comes in a moment; of an adopted one we have just seen that it is gone.
    if (!this.#options.child) this.#end(null);
    await this.ended;
  }

  /** Ends all processes, whatever state they are in. */
  kill(): Promise<void> {
    return endProcesses(this.#processes, this.#options.clock);
  }

  /** Lets go; the kernel goes on. */
  close(): void {
    this.#over = true;
    for (const detach of this.#detach) detach();
    this.#runs?.close();
    this.#client?.close();
  }

  /** Why it was ended; undefined while it was not, and for one that ended by itself. */
  get stopReason(): StatusReason | undefined {
    return this.#stopReason;
  }

  /** Its first process is known from the moment the runner has answered. */
  get processes(): KernelProcesses {
    return this.#processes;
  }

  #serve(client: RunnerClient): void {
    const { paths, processes, clock, logger } = this.#options;
    this.#runs = new Runs({
      client,
      runDirectory: paths.run,
      cgroups: processes.cgroups,
      deadlinesFile: paths.deadlines,
      clock,
      ended: this.ended,
      onExpired: (runId) => {
        logger.info('run exceeded its time limit', { run_id: runId });
        // First let the readers of the run see that its time is over; then end the kernel.
        setImmediate(() => {
          this.stop('exec-timeout', true).catch((error: unknown) =>
            logger.error('kernel could not be ended', { error }),
          );
        });
      },
    });
  }

  /** Interrupts the runner's own work and sends SIGTERM to what it started; waits for those who listen to that. */
  async #askToEnd(): Promise<void> {
    const { clock, processes } = this.#options;
    const until = clock.monotonic() + graceMs;
    const asked = kernelProcesses(processes).filter((pid) => !isMachinery(pid));
    if (asked.length === 0) return;
    await this.#client?.interrupt(undefined, { timeoutMs: 200 }).catch(() => false);
    for (const pid of asked) signalProcess(pid, 'SIGTERM');
    while (clock.monotonic() < until && !this.#over) {
      const left = new Set(kernelProcesses(processes));
      if (!asked.some((pid) => left.has(pid) && !ignores(pid, 'SIGTERM'))) return;
      await delay(clock, 5);
    }
  }

  #watchMemory(): void {
    const { isolation, processes, memoryBytes, memoryWatch } = this.#options;
    if (isolation.memory !== 'watched' || !processes.monitor) return;
    const { monitor, label, uid } = processes;
    const stop = memoryWatch.add({
      monitor,
      limitBytes: memoryBytes,
      mark: isolation.sandbox === 'none' ? { label, uid } : null,
      onExceeded: () => {
        this.stop('out-of-memory', true).catch((error: unknown) =>
          this.#options.logger.error('kernel could not be ended', { error }),
        );
      },
    });
    this.#detach.push(stop);
  }

  /** For a kernel that is no child of this process: nobody reports its end. */
  #look(): void {
    if (this.#over) return;
    const { monitor } = this.#options.processes;
    if (!monitor || !isAlive(monitor)) this.#end(null);
    else this.#cancelLook = this.#options.clock.setTimer(lookMs, () => this.#look());
  }

  #end(exitCode: number | null): void {
    if (this.#over) return;
    this.#over = true;
    for (const detach of this.#detach) detach();
    // Of a kernel that was killed on purpose, what its wrappers say about their own ends means nothing.
    const ordered = this.#stopReason !== undefined;
    const code = ordered ? killedExitCode : (readSandboxStatus(this.#options.paths).exitCode ?? exitCode);
    this.#ended.resolve({
      exitCode: code,
      reason: this.#stopReason ?? (this.#wasKilledForMemory() ? 'out-of-memory' : 'self-terminated'),
    });
  }

  #wasKilledForMemory(): boolean {
    if (this.#runs) return this.#runs.hasUnexplainedKill;
    return readCounters(this.#options.processes.cgroups).outOfMemory > this.#killsBefore;
  }

  #requireRuns(): Runs {
    if (!this.#runs) throw new AppError('kernel-not-found', 'The kernel does not run yet.');
    return this.#runs;
  }

  #requireClient(): RunnerClient {
    if (!this.#client) throw new AppError('kernel-not-found', 'The kernel does not run yet.');
    return this.#client;
  }
}

/** Sandbox, runner and its interpreter: they end last. One that only looks so is not waited for, nothing worse. */
function isMachinery(pid: number): boolean {
  return /bwrap|kernel-(monitor|setup|init)|\/(runner|node_user)\.(py|cjs)/.test(readCommandLine(pid));
}
