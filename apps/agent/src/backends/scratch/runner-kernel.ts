import type { Duplex } from 'node:stream';
import type {
  BatchEnd,
  CompleteInput,
  CompleteResult,
  ExecuteInput,
  IsolationReport,
  KernelBatch,
  RunResult,
  ServicePort,
  TerminalOptions,
} from '@backend.ai/contract';
import { AppError, type Clock, type Deferred, deferred, Lane, nextTurn, type StatusReason } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { ConsoleFiles } from '../../files/console-log.ts';
import { HomeFiles } from '../../files/home-files.ts';
import { readTail } from '../../files/tail.ts';
import { CgroupMeter } from '../../resources/cgroup-meter.ts';
import { RunnerClient } from '../../runner/index.ts';
import { KernelServices } from '../../services/kernel-services.ts';
import type { KernelEnd, KernelHandle, KernelUsage } from '../backend.ts';
import { jobBegan, runBatchJob } from './batch-job.ts';
import { KernelClock } from './kernel-clock.ts';
import { connectToService } from './kernel-streams.ts';
import { Runs } from './runs.ts';
import type { ScratchPaths } from './scratch.ts';

export interface RunnerKernelOptions {
  readonly paths: ScratchPaths;
  readonly isolation: IsolationReport;
  readonly uid: number | null;
  /** What its image offers, and the ports that were announced for programs of the user. */
  readonly services: readonly ServicePort[];
  /** Those that count what it uses and what is killed for memory in it; empty where nothing does. */
  readonly cgroups: readonly string[];
  /** It was paused by an earlier life of the agent. */
  readonly paused?: boolean | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** 128 + SIGKILL. */
export const killedExitCode = 137;

/**
 * A kernel that was started, by this process or by an earlier one, and has a scratch folder with a runner in it: all that
 * does not depend on what keeps its programs apart. What does is for subclasses, which also tell its end.
 */
export abstract class RunnerKernel implements KernelHandle {
  readonly isolation: IsolationReport;
  readonly ended: Promise<KernelEnd>;
  readonly files: HomeFiles;
  readonly scratch: string;
  readonly servicePorts: readonly ServicePort[];
  readonly console: ConsoleFiles;
  /** What its control groups count. */
  protected readonly meter: CgroupMeter;
  readonly #options: RunnerKernelOptions;
  readonly #ended: Deferred<KernelEnd> = deferred<KernelEnd>();
  readonly #killsBefore: number;
  #client: RunnerClient | undefined;
  #runs: Runs | undefined;
  #services: KernelServices | undefined;
  #stopReason: StatusReason | undefined;
  #over = false;
  #paused: boolean;
  /** Of time limits. */
  readonly #clock: KernelClock;
  /** Between paused and not. */
  readonly #changes = new Lane();

  constructor(options: RunnerKernelOptions) {
    const { paths, uid, isolation, cgroups, services } = options;
    this.#options = options;
    this.#paused = options.paused ?? false;
    this.#clock = new KernelClock({ clock: options.clock, file: paths.clock, paused: this.#paused });
    this.isolation = isolation;
    this.ended = this.#ended.promise;
    this.files = new HomeFiles({ home: paths.home, staging: paths.folder, uid });
    this.scratch = paths.folder;
    this.servicePorts = services;
    this.console = new ConsoleFiles(paths.run);
    this.meter = new CgroupMeter(cgroups);
    this.#killsBefore = this.meter.incidents().outOfMemory;
  }

  /** Makes the programs end, whatever state they are in. */
  protected abstract kill(): Promise<void>;
  /** Interrupts what runs and lets programs end by themselves, for a while. */
  protected abstract askToEnd(): Promise<void>;
  /** Makes its programs stand still, or lets them go on. @throws AppError `unsupported-feature` */
  protected abstract hold(still: boolean): Promise<void>;
  /** Stops watching for its end. */
  protected abstract detach(): void;
  protected abstract connectToPort(port: number): Promise<Duplex>;
  abstract measure(): Promise<KernelUsage>;
  abstract pids(): number[];

  /** Resolves when the runner has answered; see `RunnerClient.connect`. */
  async connectRunner(deadlineMs: number, signal?: AbortSignal): Promise<void> {
    this.#serve(await RunnerClient.connect({ ...this.#clientOptions(), deadlineMs, signal }));
  }

  /** Follows a runner that has answered long ago. */
  followRunner(): void {
    this.#serve(new RunnerClient(this.#clientOptions()));
  }

  /** See `RunnerClient.claim`. */
  async claimRunner(environ: Readonly<Record<string, string>>, timeoutMs: number): Promise<void> {
    await this.#requireClient().claim(environ, { timeoutMs });
  }

  execute(input: ExecuteInput, signal: AbortSignal | undefined): Promise<RunResult> {
    return this.#requireRuns().execute(input, signal);
  }

  /** Its exit code; null when the kernel ends, or the signal aborts, before. */
  async runToEnd(runId: string, command: string, signal: AbortSignal): Promise<number | null> {
    const runs = this.#requireRuns();
    await runs.begin(runId, command);
    return (await runs.endOf(runId, signal))?.x ?? null;
  }

  get batchBegan(): boolean {
    return jobBegan(this.#options.paths.batch);
  }

  runBatch(batch: KernelBatch, signal: AbortSignal): Promise<BatchEnd | null> {
    const { paths } = this.#options;
    const job = { runs: this.#requireRuns(), client: this.#requireClient(), file: paths.batch, clock: this.#clock };
    return runBatchJob(job, batch, signal);
  }

  async interrupt(runId?: string): Promise<void> {
    await this.#requireClient().interrupt(runId);
  }

  async complete({ code, position }: CompleteInput): Promise<CompleteResult> {
    const completions = await this.#requireClient().complete(code, position, { timeoutMs: 4_000 });
    return { completions };
  }

  async logs(maxBytes: number): Promise<string> {
    return readConsole(this.#options.paths, maxBytes);
  }

  async lastWords(): Promise<ReadonlyMap<string, RunResult>> {
    return (await this.#runs?.lastWords()) ?? new Map();
  }

  connect(target: { readonly port: number } | { readonly service: string }): Promise<Duplex> {
    if ('service' in target) return connectToService(this.#options.paths.run, target.service);
    return this.connectToPort(target.port);
  }

  get services(): KernelServices {
    if (!this.#services) throw new AppError('kernel-not-found', 'The kernel does not run yet.');
    return this.#services;
  }

  openTerminal(terminal: TerminalOptions): Promise<Duplex> {
    return this.#requireClient().openTerminal(terminal);
  }

  get paused(): boolean {
    return this.#paused;
  }

  pause(): Promise<void> {
    return this.#hold(true);
  }

  resume(): Promise<void> {
    return this.#hold(false);
  }

  async stop(reason: StatusReason, forced: boolean): Promise<void> {
    this.#stopReason ??= reason;
    // What stands still hears nothing, and may not even die.
    if (this.#paused && !forced) {
      // Whatever kills it lets it go on, too: it ends all the same, only without a word.
      await this.resume().catch((error: unknown) =>
        this.#options.logger.warn('paused kernel could not be resumed before its end', { error }),
      );
    }
    if (!forced) await this.askToEnd();
    await this.kill();
    await this.ended;
  }

  /** Lets go; the kernel goes on. */
  close(): void {
    this.#over = true;
    this.detach();
    this.#runs?.close();
    this.#client?.close();
    this.meter.close();
  }

  /** Why it was ended; undefined while it was not, and for one that ended by itself. */
  get stopReason(): StatusReason | undefined {
    return this.#stopReason;
  }

  /** Whether it has ended, or is no longer followed. */
  get isOver(): boolean {
    return this.#over;
  }

  /**
   * It has ended. Of one that was ended on purpose, what its wrappers say about their own ends means nothing.
   * @param cause Where it is known
   */
  protected end(exitCode: number | null, cause?: StatusReason): void {
    if (this.#over) return;
    this.#over = true;
    this.detach();
    const byItself = cause ?? (this.#wasKilledForMemory() ? 'out-of-memory' : 'self-terminated');
    this.#ended.resolve({
      exitCode: this.#stopReason === undefined ? exitCode : killedExitCode,
      reason: this.#stopReason ?? byItself,
    });
  }

  /** As Ctrl-C does, if the runner listens. */
  protected async interruptRunner(): Promise<void> {
    await this.#client?.interrupt(undefined, { timeoutMs: 200 }).catch(() => false);
  }

  #hold(still: boolean): Promise<void> {
    return this.#changes.follow(async () => {
      // Going on is asked for always: a pause that was given up may have come later.
      if (still && (this.#paused || this.#stopReason !== undefined)) return;
      await this.hold(still);
      this.#paused = still;
      this.#clock.hold(still);
    });
  }

  /** Ends it for a reason that nobody waits for. */
  protected endFor(reason: StatusReason): void {
    this.stop(reason, true).catch((error: unknown) =>
      this.#options.logger.error('kernel could not be ended', { error }),
    );
  }

  #clientOptions() {
    const { paths, clock, logger } = this.#options;
    return { runDirectory: paths.run, ended: this.ended, clock, logger };
  }

  #serve(client: RunnerClient): void {
    const { paths, clock, logger } = this.#options;
    this.#client = client;
    const connect = (port: number): Promise<Duplex> => this.connectToPort(port);
    this.#services = new KernelServices({ client, services: this.servicePorts, connect, clock });
    this.#runs = new Runs({
      client,
      runDirectory: paths.run,
      incidents: () => this.meter.incidents(),
      deadlinesFile: paths.deadlines,
      clock: this.#clock,
      ended: this.ended,
      onExpired: (runId) => {
        logger.info('run exceeded its time limit', { run_id: runId });
        // First let the readers of the run see that its time is over; then end the kernel.
        void nextTurn().then(() => this.endFor('exec-timeout'));
      },
    });
  }

  #wasKilledForMemory(): boolean {
    if (this.#runs) return this.#runs.hasUnexplainedKill;
    return this.meter.incidents().outOfMemory > this.#killsBefore;
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

/** The end of what programs have printed, as the runner has kept it; also of a kernel that has ended long ago. */
export function readConsole({ run }: ScratchPaths, maxBytes: number): string {
  const newest = readTail(run, 'console.log', maxBytes);
  const older = newest.length < maxBytes ? readTail(run, 'console.log.1', maxBytes - newest.length) : Buffer.alloc(0);
  return Buffer.concat([older, newest]).toString('utf8');
}
