import type { KernelCommit, KernelCommitState } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { KernelHandle } from '../backends/backend.ts';

const none: KernelCommitState = { state: 'none', image: null, failure: null };
/** How many outcomes are remembered. */
const maxKept = 1_000;

/** The images that are being made of kernels: one of a kernel at a time. */
export class KernelCommits {
  readonly #tasks: BackgroundTasks;
  readonly #states = new Map<string, KernelCommitState>();

  constructor(tasks: BackgroundTasks) {
    this.#tasks = tasks;
  }

  /** @throws AppError `unsupported-feature`, `state-conflict` */
  begin(kernelId: string, kernel: KernelHandle, { image, labels }: KernelCommit): void {
    const { commit } = kernel;
    if (!commit) {
      throw new AppError('unsupported-feature', 'Images can be made of kernels in containers only.', {
        hint: 'Keep what the session needs in files, or ask for an agent with a container engine.',
      });
    }
    const now = this.state(kernelId);
    if (now.state === 'committing') {
      if (now.image === image) return;
      throw new AppError('state-conflict', `An image is being made of this kernel: ${now.image}.`);
    }
    this.#keep(kernelId, { ...none, state: 'committing', image });
    this.#tasks.start('commit kernel', async () => {
      try {
        await commit.call(kernel, { image, labels });
        this.#keep(kernelId, { ...none, state: 'done', image });
      } catch (thrown) {
        const error = AppError.from(thrown);
        this.#keep(kernelId, { ...none, state: 'failed', image, failure: error.toBody() });
        if (error.code === 'internal') throw thrown;
      }
    });
  }

  state(kernelId: string): KernelCommitState {
    return this.#states.get(kernelId) ?? none;
  }

  #keep(kernelId: string, state: KernelCommitState): void {
    this.#states.delete(kernelId);
    this.#states.set(kernelId, state);
    const [oldest] = this.#states.keys();
    if (oldest !== undefined && this.#states.size > maxKept) this.#states.delete(oldest);
  }
}
