import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { KernelCommit } from '@backend.ai/contract';
import { AppError, delay, hasCode } from '@backend.ai/core';
import { BackgroundTasks } from '@backend.ai/telemetry';
import { processesIn } from '../../resources/cgroups.ts';
import { readNetworkOf } from '../../resources/network-usage.ts';
import { isRunning } from '../../resources/processes.ts';
import type { KernelUsage } from '../backend.ts';
import { askToEnd } from '../scratch/ask-to-end.ts';
import { connected, notListening } from '../scratch/kernel-streams.ts';
import { RunnerKernel, type RunnerKernelOptions } from '../scratch/runner-kernel.ts';
import { containerEnd } from './container-end.ts';
import { type Engine, foundNobody } from './engine.ts';
import type { EngineTraits } from './engine-traits.ts';
import { commitContainer } from './images/commit-container.ts';

export interface DockerKernelOptions extends RunnerKernelOptions {
  readonly engine: Engine;
  readonly traits: Pick<EngineTraits, 'keepsContainers' | 'knowsItsLayers'>;
  readonly containerId: string;
  /** Of its first process, as this machine counts them; null: it does not run. */
  readonly pid: number | null;
  /** In the network of its session; null: it has none. */
  readonly address: string | null;
  /** Called when there is a new image in the engine. */
  readonly onImage: () => void;
}

/** How long an engine that has gone away is left alone before it is asked again, in milliseconds. */
const engineAwayMs = 500;
/** Of the log of the container, when its runner has written none. */
const logLines = 200;

/** A kernel in a container that was started, by this process or by an earlier one. */
export class DockerKernel extends RunnerKernel {
  readonly #options: DockerKernelOptions;
  readonly #detached = new AbortController();
  /** Aborted when the agent lets go of it, and not by its end. */
  readonly #letGo = new AbortController();
  #committing = false;

  constructor(options: DockerKernelOptions) {
    super(options);
    this.#options = options;
    new BackgroundTasks(options.logger).start('watch a container', () => this.#watch());
  }

  async measure(): Promise<KernelUsage> {
    const { pid } = this.#options;
    // The number of one that has ended may be somebody else's.
    const network = pid === null || this.isOver ? null : readNetworkOf(pid);
    return { ...this.meter.read(), ...network };
  }

  pids(): number[] {
    return processesIn(this.#options.cgroups).filter(isRunning);
  }

  /** What the runner has kept; of one that never came up, what it or the engine's init complained about. */
  override async logs(maxBytes: number): Promise<string> {
    const { engine, containerId } = this.#options;
    return (await super.logs(maxBytes)) || (await engine.containerLogs(containerId, logLines)).slice(-maxBytes);
  }

  async commit({ image, labels }: KernelCommit): Promise<void> {
    const { engine, traits, containerId, onImage, logger } = this.#options;
    if (!traits.knowsItsLayers) {
      throw new AppError('unsupported-feature', 'No images are made of sessions whose containers are of Podman.', {
        hint: 'Make them where agents have Docker.',
      });
    }
    this.#committing = true;
    try {
      const [ended, letGo] = [this.#detached.signal, this.#letGo.signal];
      await commitContainer(engine, { containerId, image, labels }, { ended, letGo, logger });
    } finally {
      this.#committing = false;
    }
    onImage();
  }

  protected async connectToPort(port: number): Promise<Duplex> {
    const { address } = this.#options;
    if (address === null) throw notListening(`port ${port}`);
    return await connected(connect({ host: address, port }), `port ${port}`);
  }

  /** An engine that does not answer is asked until it does: nobody else would order it again. */
  protected async kill(): Promise<void> {
    const { engine, containerId, clock } = this.#options;
    const { signal } = this.#detached;
    while (!signal.aborted) {
      try {
        return await engine.killContainer(containerId);
      } catch (error) {
        if (!hasCode(error, 'engine-unavailable')) throw error;
        await delay(clock, engineAwayMs, signal);
      }
    }
  }

  /** While an image is made of it the engine makes it stand still, and afterwards go on, whoever else asked for that. */
  protected async hold(still: boolean): Promise<void> {
    const { engine, containerId } = this.#options;
    if (this.#committing && still) {
      throw new AppError('state-conflict', 'An image is being made of the kernel.', {
        hint: 'Try again when that is done.',
      });
    }
    if (this.#committing && !this.paused) return;
    await (still ? engine.pauseContainer(containerId) : engine.unpauseContainer(containerId));
  }

  protected async askToEnd(): Promise<void> {
    const { clock } = this.#options;
    await askToEnd({
      pids: () => this.pids(),
      interruptRunner: () => this.interruptRunner(),
      isOver: () => this.isOver,
      clock,
    });
  }

  override close(): void {
    this.#letGo.abort();
    super.close();
  }

  protected detach(): void {
    this.#detached.abort();
  }

  /** Waits for its end, through restarts of the engine. Only what the engine says of the container ends it. */
  async #watch(): Promise<void> {
    const { engine, traits, containerId, clock, logger } = this.#options;
    const { signal } = this.#detached;
    let engineLeft = false;
    while (!signal.aborted) {
      try {
        // What runs has outlived the engine.
        if (engineLeft) engineLeft = !(await engine.inspectContainer(containerId))?.State.Running;
        await engine.waitUntilStopped(containerId, signal);
        const info = await engine.inspectContainer(containerId);
        if (!info?.State.Running) {
          const { exitCode, outOfMemory } = containerEnd(info);
          if (outOfMemory) return this.end(exitCode, 'out-of-memory');
          const takenAlong = engineLeft && !traits.keepsContainers && !(await engine.info()).LiveRestoreEnabled;
          return this.end(exitCode, takenAlong ? 'engine-restarted' : undefined);
        }
      } catch (error) {
        if (signal.aborted) return;
        engineLeft ||= foundNobody(error);
        if (!hasCode(error, 'engine-unavailable')) logger.warn('container could not be watched', { error });
      }
      await delay(clock, engineAwayMs, signal);
    }
  }
}
