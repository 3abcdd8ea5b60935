import { chownSync } from 'node:fs';
import type Docker from 'dockerode';
import { expect } from 'vitest';
import { carriedCommand } from '../src/backends/docker/carried-programs.ts';
import { ownView } from '../src/backends/scratch/kernel-view.ts';
import { TestKernel } from '../src/runner/runner.test.kit.ts';
import { type RunnerLanguage, runnerCommand, runnerFiles } from '../src/runner/runner-command.ts';
import { docker } from './docker-world.ts';

export interface ContainerKernelOptions {
  readonly image: string;
  readonly language: RunnerLanguage;
  /** Of Python and Node.js: what runs it; of a shell: which one. */
  readonly interpreter: string;
  /** Folder of `carryPrograms`. */
  readonly carried: string;
  readonly outputLimitBytes?: number | undefined;
  /** Where Python looks first. */
  readonly modules?: string | undefined;
}

const inside = '/opt/backend.ai/programs';
/** Not root, and nobody that the image knows. */
const uid = process.getuid?.() === 0 ? 712_345 : (process.getuid?.() ?? 0);

/** A runner in a container of its own, without an agent. */
export class ContainerKernel extends TestKernel {
  readonly pid: unknown = expect.any(Number);
  readonly #container: Promise<Docker.Container>;

  static async start(options: ContainerKernelOptions): Promise<ContainerKernel> {
    const kernel = new ContainerKernel(options);
    const container = await kernel.#container;
    const exit = container.wait({ condition: 'next-exit' }) as Promise<{ StatusCode: number }>;
    exit.then(
      ({ StatusCode }) => kernel.ended.resolve({ exitCode: StatusCode }),
      (error: unknown) => kernel.ended.reject(error),
    );
    await container.start();
    return kernel;
  }

  private constructor(options: ContainerKernelOptions) {
    super();
    for (const folder of [this.run, this.home]) chownSync(folder, uid, uid);
    const { image, carried, modules } = options;
    const bind = (source: string, target: string, readOnly: boolean) => ({
      ...{ Type: 'bind' as const, Source: source, Target: target, ReadOnly: readOnly },
    });
    this.#container = docker.createContainer({
      Image: image,
      Labels: { 'ai.backend.test': 'runner' },
      User: `${uid}:${uid}`,
      WorkingDir: ownView.home,
      Entrypoint: commandOf(options),
      Cmd: [],
      Env: modules === undefined ? [] : [`PYTHONPATH=${modules}`],
      HostConfig: {
        Init: true,
        CapDrop: ['ALL'],
        NetworkMode: 'none',
        Mounts: [
          bind(this.home, ownView.home, false),
          bind(this.run, ownView.run, false),
          bind(runnerFiles(), ownView.runner, true),
          bind(carried, inside, true),
          ...(modules === undefined ? [] : [bind(modules, modules, true)]),
        ],
      },
    });
  }

  async ask(signal: 'SIGTERM' | 'SIGINT'): Promise<void> {
    await (await this.#container).kill({ signal });
  }

  async kill(): Promise<void> {
    // One that has ended cannot be killed.
    await (await this.#container).kill({ signal: 'SIGKILL' }).catch(() => {});
    await this.ended.promise;
  }

  override async stop(): Promise<void> {
    await super.stop();
    await (await this.#container).remove({ force: true, v: true });
  }
}

function commandOf({ language, interpreter, outputLimitBytes }: ContainerKernelOptions): string[] {
  const folders = { runnerDirectory: ownView.runner, runDirectory: ownView.run, homeDirectory: ownView.home };
  const options = { ...folders, outputLimitBytes };
  if (language === 'python') return runnerCommand(language, interpreter, { ...options, interpreter: 'auto' });
  if (language === 'node') return runnerCommand(language, interpreter, { ...options, carried: inside });
  return runnerCommand(language, carriedCommand(inside, 'node'), { ...options, shell: interpreter, carried: inside });
}
