import { readFileSync, rmSync } from 'node:fs';
import type { ExecuteInput, RunResult } from '@backend.ai/contract';
import { AppError, type Clock, type ErrorBody, hasCode, newId, type StatusReason } from '@backend.ai/core';
import { isNearlyFull, unlessDiskFull } from '../../files/disk-full.ts';
import { replaceFileSync } from '../../files/replace-file.ts';
import type { CgroupIncidents } from '../../resources/cgroup-meter.ts';
import type { Execution, RunnerClient } from '../../runner/index.ts';
import { endOf } from '../../runner/last-record.ts';
import type { RunEnd } from '../../runner/runner-messages.ts';
import type { KernelEnd } from '../backend.ts';

export interface RunsOptions {
  readonly client: RunnerClient;
  readonly runDirectory: string;
  /** What has happened to its programs since they were started. */
  readonly incidents: () => CgroupIncidents;
  /** Where deadlines of runs outlive the agent. */
  readonly deadlinesFile: string;
  /** That of the kernel: it stands still with its programs. */
  readonly clock: Clock;
  readonly ended: Promise<KernelEnd>;
  /** A run has used up its time. */
  readonly onExpired: (runId: string) => void;
}

interface Run {
  readonly id: string;
  readonly before: CgroupIncidents;
  readonly expired: AbortController;
  /** Where a caller without a cursor of its own reads on. */
  cursor: number;
  truncated: boolean;
  /** The runner has not answered yet: it may have no journal. */
  beginning: boolean;
  finished: boolean;
  cancelDeadline: (() => void) | undefined;
}

/** How long a wait for the end of a run lasts before everything is looked at again. */
const lookAgainMs = 2_000;
/** Above this number ended runs are forgotten, as the runner does, whether somebody asked for their end or not. */
const mostRuns = 256;
/** Of what readers would still get after the end of a kernel, in bytes of journals: of all its runs, and of one. */
const lastWordsBytes = 4 * 1024 * 1024;
const lastWordsOfRunBytes = 1024 * 1024;

/** The executions of one kernel: cursors, deadlines, and what happened to them besides their exit codes. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #runs = new Map<string, Run>();
  #end: KernelEnd | undefined;
  readonly #over = new AbortController();
  /** Kills for memory that a finished run already answers for. */
  #explainedKills: number;

  constructor(options: RunsOptions) {
    this.#options = options;
    this.#explainedKills = options.incidents().outOfMemory;
    void options.ended.then((end) => {
      this.#end = end;
      this.#over.abort();
      for (const run of this.#runs.values()) run.cancelDeadline?.();
    });
    this.#restoreDeadlines();
  }

  /** Whether the system has killed for memory and no finished run explains it. */
  get hasUnexplainedKill(): boolean {
    return this.#options.incidents().outOfMemory > this.#explainedKills;
  }

  async execute(input: ExecuteInput, signal: AbortSignal | undefined): Promise<RunResult> {
    const { client } = this.#options;
    if (input.mode === 'query' || input.mode === 'batch') {
      const runId = input.runId ?? newId();
      const known = this.#runs.has(runId);
      const run = this.#ensure(runId);
      if (!known && input.timeoutMs > 0) this.#setDeadline(run, this.#options.clock.now() + input.timeoutMs);
      const { clean, build, exec, buildLog, timeoutsMs } = input.options;
      const steps = { clean, build, exec, buildLog, timeoutsMs };
      run.beginning = true;
      try {
        await this.#begin(
          runId,
          input.mode === 'query' ? { mode: 'query', code: input.code } : { mode: 'batch', ...steps },
        );
      } catch (error) {
        if (!known) this.#forget(run);
        throw error;
      } finally {
        run.beginning = false;
      }
      return await this.#collect(run, input.cursor ?? 0, input, signal);
    }
    if (!input.runId) throw new AppError('invalid-input', `The mode "${input.mode}" needs the id of a run.`);
    const run = this.#find(input.runId);
    if (input.mode === 'input') await client.input(run.id, input.code, { eof: input.options.eof === true });
    return await this.#collect(run, input.cursor ?? run.cursor, input, signal);
  }

  /**
   * Hands the run to the runner. Repeating a run id is harmless, so a lost connection is no answer; when the kernel has
   * ended, by this very run perhaps, collecting tells how.
   */
  async #begin(runId: string, execution: Execution): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#options.client.execute(runId, execution);
        return;
      } catch (error) {
        if (this.#end && hasCode(error, 'connection-lost', 'kernel-lost', 'kernel-not-found')) return;
        if (!hasCode(error, 'connection-lost') || tries === 3) throw error;
      }
    }
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** Hands a shell command to the runner; with an id that it knows nothing happens. */
  async begin(runId: string, command: string): Promise<void> {
    await this.#begin(runId, { mode: 'batch', exec: command });
  }

  /**
   * How a run ended, once it has; its output stays in the journal. Undefined when the kernel ends, or the signal aborts,
   * before.
   * @throws AppError `run-not-found`, `kernel-lost` when its journal is gone or was replaced
   */
  async endOf(runId: string, signal: AbortSignal): Promise<RunEnd | undefined> {
    const { client } = this.#options;
    const woken = AbortSignal.any([signal, this.#over.signal]);
    const journal = client.journal(runId);
    for (;;) {
      const final = woken.aborted;
      const size = final ? 0 : journal.size();
      const end = this.#endOf(runId);
      if (end || final) return end;
      if (!journal.exists()) throw new AppError('run-not-found', 'The kernel keeps no output of this execution.');
      await journal.waitBeyond(size, { timeoutMs: lookAgainMs, signal: woken });
    }
  }

  /** What readers of unfinished runs would still get after the kernel has ended. */
  async lastWords(): Promise<Map<string, RunResult>> {
    const words = new Map<string, RunResult>();
    let left = lastWordsBytes;
    for (const run of this.#runs.values()) {
      if (run.finished) continue;
      try {
        const start = run.cursor;
        words.set(run.id, await this.#lastWordsOf(run, Math.min(left, lastWordsOfRunBytes)));
        left -= run.cursor - start;
      } catch {
        // Its journal is gone or damaged: nothing can be told.
      }
    }
    return words;
  }

  /** Everything up to its end as one answer: of the output what `maxBytes` of its journal have. */
  async #lastWordsOf(run: Run, maxBytes: number): Promise<RunResult> {
    const start = run.cursor;
    const console: RunResult['console'] = [];
    for (;;) {
      const room = maxBytes - (run.cursor - start);
      if (room <= 0) break;
      const result = await this.#collect(run, run.cursor, { flushMs: 0, holdMs: 0, maxBytes: room }, undefined);
      console.push(...result.console);
      if (run.finished) return { ...result, console };
    }
    run.truncated = true;
    const end = this.#endOf(run.id);
    const exitCode = end?.x ?? this.#end?.exitCode ?? 137;
    const { id: runId, cursor } = run;
    return this.#judge(run, { runId, status: 'finished', exitCode, options: null, console, cursor }, end);
  }

  close(): void {
    for (const run of this.#runs.values()) run.cancelDeadline?.();
  }

  async #collect(
    run: Run,
    cursor: number,
    options: { readonly flushMs: number; readonly holdMs: number; readonly maxBytes?: number },
    signal: AbortSignal | undefined,
  ): Promise<RunResult> {
    const { flushMs, holdMs, maxBytes } = options;
    const { truncated, end, ...result } = await this.#options.client.collect(run.id, cursor, {
      flushMs,
      holdMs,
      maxBytes,
      signal,
      expired: run.expired.signal,
    });
    run.truncated ||= truncated;
    run.cursor = result.cursor;
    // A reader that stands behind its record already gets it again.
    const ending = end ?? (result.exitCode === null ? undefined : this.#endOf(run.id));
    return this.#judge(run, { ...result, console: result.console as RunResult['console'] }, ending);
  }

  /** What the end of a run means, if this is one. */
  #judge(run: Run, result: Omit<RunResult, 'notices'>, end: RunEnd | undefined): RunResult {
    // The end of a kernel that ran out of time is the end of its run's time, whoever notices first.
    if (run.expired.signal.aborted && (result.status === 'exec-timeout' || (result.exitCode !== null && !end))) {
      this.#finish(run);
      return { ...result, status: 'exec-timeout', exitCode: null, notices: [timeoutNotice()] };
    }
    if (result.status !== 'finished') return { ...result, notices: [] };
    const notices = this.#notices(run, result.exitCode, end && this.#onFullDisk(end));
    this.#finish(run);
    return { ...result, notices };
  }

  #notices(run: Run, exitCode: number | null, ending: RunEnd | undefined): ErrorBody[] {
    const notices: AppError[] = [];
    const now = this.#options.incidents();
    const signalName = ending?.s;
    const outOfMemory = now.outOfMemory > run.before.outOfMemory || (!ending && this.#end?.reason === 'out-of-memory');
    if (outOfMemory) {
      notices.push(new AppError('out-of-memory', 'The program needed more memory than its session has.'));
      if (ending) this.#explainedKills = now.outOfMemory;
    } else if (!ending) notices.push(endNotice(this.#end?.reason ?? 'self-terminated', exitCode));
    else if (signalName !== undefined && signalName !== 'SIGINT') {
      notices.push(
        new AppError('program-killed', `The program was ended by ${signalName}.`, { data: { signal: signalName } }),
      );
    }
    if (now.processLimit > run.before.processLimit) {
      notices.push(
        new AppError('process-limit-reached', 'The program started more processes than its session may have.'),
      );
    }
    if (ending?.full) {
      notices.push(
        new AppError('disk-full', 'The disk of the agent is full: what the program wrote may be incomplete.'),
      );
    }
    if (run.truncated) {
      notices.push(
        new AppError('output-limit-exceeded', 'The program printed more than is kept; the rest was dropped.'),
      );
    }
    return notices.map((notice) => notice.toBody());
  }

  /** As its journal says, or its runner where the disk does not take that. */
  #endOf(runId: string): RunEnd | undefined {
    const { client, runDirectory } = this.#options;
    const untold = client.untold(runId);
    const end = endOf(runDirectory, runId) ?? (untold?.t === 'finished' ? untold : undefined);
    return end && this.#onFullDisk(end);
  }

  /** What fails on a full disk, fails of it, perhaps. */
  #onFullDisk(end: RunEnd): RunEnd {
    return end.x !== 0 && isNearlyFull(this.#options.runDirectory) ? { ...end, full: true } : end;
  }

  /** One that was begun here, or before this agent was started. @throws AppError `run-not-found` */
  #find(runId: string): Run {
    if (this.#runs.has(runId) || this.#options.client.journal(runId).exists()) return this.#ensure(runId);
    throw new AppError('run-not-found', 'The kernel keeps no output of this execution.');
  }

  /** @throws AppError `kernel-busy` */
  #ensure(runId: string): Run {
    const present = this.#runs.get(runId);
    if (present) return present;
    this.#makeRoom();
    const run: Run = {
      id: runId,
      before: this.#options.incidents(),
      expired: new AbortController(),
      cursor: 0,
      truncated: false,
      beginning: false,
      finished: false,
      cancelDeadline: undefined,
    };
    this.#runs.set(runId, run);
    return run;
  }

  #makeRoom(): void {
    for (const run of this.#runs.values()) {
      if (this.#runs.size < mostRuns) return;
      if (run.finished || this.#isOver(run)) this.#forget(run);
    }
    if (this.#runs.size >= mostRuns) throw new AppError('kernel-busy', 'Too many executions wait.');
  }

  #isOver({ id, beginning }: Run): boolean {
    if (beginning) return false;
    return !this.#options.client.journal(id).exists() || this.#endOf(id) !== undefined;
  }

  #finish(run: Run): void {
    run.finished = true;
    this.#clearDeadline(run);
  }

  #forget(run: Run): void {
    this.#clearDeadline(run);
    this.#runs.delete(run.id);
  }

  #deadlines: Record<string, number> = {};

  #setDeadline(run: Run, at: number): void {
    this.#deadlines[run.id] = at;
    this.#saveDeadlines();
    this.#armDeadline(run, at);
  }

  #armDeadline(run: Run, at: number): void {
    const { clock } = this.#options;
    run.cancelDeadline = clock.setTimer(Math.max(0, at - clock.now()), () => {
      // Finished, but nobody has asked for the end yet.
      if (this.#end || this.#endOf(run.id)) return;
      run.expired.abort();
      this.#options.onExpired(run.id);
    });
  }

  #clearDeadline(run: Run): void {
    run.cancelDeadline?.();
    run.cancelDeadline = undefined;
    if (!(run.id in this.#deadlines)) return;
    delete this.#deadlines[run.id];
    if (!this.#end) this.#saveDeadlines();
  }

  #saveDeadlines(): void {
    const { deadlinesFile } = this.#options;
    if (Object.keys(this.#deadlines).length === 0) rmSync(deadlinesFile, { force: true });
    // This agent keeps to them all the same, and what makes room again is a run, perhaps.
    else unlessDiskFull(() => replaceFileSync(deadlinesFile, JSON.stringify(this.#deadlines)));
  }

  #restoreDeadlines(): void {
    try {
      this.#deadlines = JSON.parse(readFileSync(this.#options.deadlinesFile, 'utf8')) as Record<string, number>;
    } catch {
      return;
    }
    for (const [runId, at] of Object.entries(this.#deadlines)) this.#armDeadline(this.#ensure(runId), at);
  }
}

function timeoutNotice(): ErrorBody {
  return new AppError('execution-timeout', 'The program ran past its time limit; its session was ended.').toBody();
}

function endNotice(reason: StatusReason, exitCode: number | null): AppError {
  const data = { reason, exitCode };
  const hint = 'See why it ended with: ./backend.ai session info NAME';
  return new AppError('program-killed', 'The session ended while the program ran.', { hint, data });
}
