import type { ChildProcess } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { AppError, delay } from '@backend.ai/core';
import { canFreeze, freezeCgroups, isFrozen } from '../../resources/cgroups.ts';
import { isAlive, type ProcessTable } from '../../resources/processes.ts';
import type { KernelUsage } from '../backend.ts';
import { askToEnd } from '../scratch/ask-to-end.ts';
import { RunnerKernel, type RunnerKernelOptions } from '../scratch/runner-kernel.ts';
import { connectToPort } from './connect-to-port.ts';
import { endProcesses, type KernelProcesses, kernelProcesses } from './end-processes.ts';
import { findInit } from './find-init.ts';
import { measureKernel, pidsToMeasure } from './measure-kernel.ts';
import type { MemoryWatch } from './memory-watch.ts';
import type { RecentProcesses } from './recent-processes.ts';
import { readSandboxStatus } from './sandbox-status.ts';

export interface ProcessKernelOptions extends Omit<RunnerKernelOptions, 'uid' | 'cgroups'> {
  readonly processes: KernelProcesses;
  /** Null for an adopted kernel: it is no child of this process. */
  readonly child: ChildProcess | null;
  readonly memoryBytes: number;
  readonly memoryWatch: MemoryWatch;
  readonly recentProcesses: RecentProcesses;
}

/** How often an adopted kernel is looked after, in milliseconds; its socket tells sooner. */
const lookMs = 250;
/** Programs in the middle of a call of the system need a moment to stand still, in milliseconds. */
const freezeMs = 5_000;

/** A kernel whose sandbox has been started, by this process or by an earlier one. */
export class ProcessKernel extends RunnerKernel {
  readonly #options: ProcessKernelOptions;
  #processes: KernelProcesses;
  readonly #detach: Array<() => void> = [];
  #cancelLook: (() => void) | undefined;

  constructor(options: ProcessKernelOptions) {
    const { processes, child } = options;
    super({ ...options, uid: processes.uid, cgroups: processes.cgroups });
    this.#options = options;
    this.#processes = processes;
    if (child) {
      const onExit = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.#exited(code ?? (signal ? 137 : null));
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

  override async connectRunner(deadlineMs: number, signal?: AbortSignal): Promise<void> {
    await super.connectRunner(deadlineMs, signal);
    const { paths, isolation } = this.#options;
    this.#processes = { ...this.#processes, init: findInit(paths, isolation.sandbox, this.#processes.monitor) };
  }

  measure(): Promise<KernelUsage> {
    return measureKernel(this.meter, this.#processes, ...this.#found());
  }

  pids(): number[] {
    return pidsToMeasure(this.#processes, ...this.#found());
  }

  /** Its first process is known from the moment the runner has answered. */
  get processes(): KernelProcesses {
    return this.#processes;
  }

  protected connectToPort(port: number): Promise<Duplex> {
    const { processes } = this.#options;
    return connectToPort(port, processes.uid, () => kernelProcesses(processes));
  }

  protected async kill(): Promise<void> {
    await endProcesses(this.#processes, this.#options.clock);
    // The exit of the monitor comes in a moment; of an adopted one we have just seen that it is gone.
    if (!this.#options.child) this.#exited(null);
  }

  protected detach(): void {
    for (const detach of this.#detach) detach();
  }

  /** Stopping programs one by one would be seen by their parents, and let those go on that were stopped before. */
  protected async hold(still: boolean): Promise<void> {
    const { clock, processes } = this.#options;
    const { cgroups } = processes;
    if (!canFreeze(cgroups)) {
      if (!still) return;
      throw new AppError(
        'unsupported-feature',
        'Nothing on the machine of this session can make its programs stand still.',
        {
          hint: 'Its agent needs control groups with a freezer, or a container engine.',
        },
      );
    }
    freezeCgroups(cgroups, still);
    const until = clock.monotonic() + freezeMs;
    while (isFrozen(cgroups) !== still && !this.isOver) {
      if (clock.monotonic() > until) {
        freezeCgroups(cgroups, !still);
        throw new AppError('internal', 'The programs of a kernel do not stand still.', { detail: { cgroups } });
      }
      await delay(clock, 2);
    }
  }

  protected async askToEnd(): Promise<void> {
    const { clock } = this.#options;
    await askToEnd({
      pids: () => kernelProcesses(this.#processes),
      interruptRunner: () => this.interruptRunner(),
      isOver: () => this.isOver,
      clock,
    });
  }

  /** Where its processes are looked for, and whether programs may have left its tree. */
  #found(): [table: () => ProcessTable, mayLeaveTree: boolean] {
    const { recentProcesses, isolation } = this.#options;
    return [() => recentProcesses.get(), isolation.sandbox === 'none'];
  }

  #watchMemory(): void {
    const { isolation, processes, memoryBytes, memoryWatch } = this.#options;
    if (isolation.memory !== 'watched' || !processes.monitor) return;
    const { monitor, label, uid } = processes;
    const stop = memoryWatch.add({
      monitor,
      limitBytes: memoryBytes,
      mark: isolation.sandbox === 'none' ? { label, uid } : null,
      onExceeded: () => this.endFor('out-of-memory'),
    });
    this.#detach.push(stop);
  }

  /** For a kernel that is no child of this process: nobody reports its end. */
  #look(): void {
    if (this.isOver) return;
    const { monitor } = this.#options.processes;
    if (!monitor || !isAlive(monitor)) this.#exited(null);
    else this.#cancelLook = this.#options.clock.setTimer(lookMs, () => this.#look());
  }

  /** @param exitCode Of the monitor; what the sandbox has written down counts more. */
  #exited(exitCode: number | null): void {
    this.end(readSandboxStatus(this.#options.paths).exitCode ?? exitCode);
  }
}
