import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import type { DeviceContribution } from '../../accelerators/accelerator-plugin.ts';
import { formatNumberList } from '../../resources/numa.ts';
import { type KernelView, ownView } from '../scratch/kernel-view.ts';
import type { ScratchPaths } from '../scratch/scratch.ts';
import type { SandboxCandidate } from './isolation.ts';
import { type HostMount, type Mount, mountTable, placeMountPoints, readOnly, writable } from './mount-plan.ts';
import { encodeEnvironment, type SandboxTools, sandboxCommand } from './sandbox-command.ts';

/** In the environment of every process of a kernel, inside and outside of its sandbox. */
export const labelName = 'BACKENDAI_KERNEL_LABEL';

export interface LauncherOptions {
  readonly tools: SandboxTools;
  readonly asRoot: boolean;
  readonly installationId: string;
  readonly runnerFolder: string;
  readonly systemMounts: readonly Mount[];
  readonly sandboxRoot: string;
  readonly hostMounts: readonly HostMount[];
}

export interface LaunchRequest {
  readonly candidate: SandboxCandidate;
  readonly kernelId: string;
  readonly paths: ScratchPaths;
  readonly uid: number | null;
  readonly cgroupEntries: readonly string[];
  readonly hostname: string;
  /** Whether it has a table of hosts of its own. */
  readonly hasHosts: boolean;
  readonly processLimit: number;
  readonly memoryBytes: number;
  /** Processors that it is kept to, where the machine has the tool; null: any. */
  readonly cpus: readonly number[] | null;
  readonly devices: DeviceContribution;
  /** Set inside, by the kernel's user. */
  readonly environment: (view: KernelView) => Readonly<Record<string, string>>;
  readonly command: (view: KernelView) => readonly string[];
}

const hostsInKernel = '/etc/hosts';

/** An entry of the environment. */
export function labelOf(installationId: string, kernelId: string): string {
  return `${labelName}=${installationId}:${kernelId}`;
}

/** Starts sandboxes: one spawn each, detached, with files as standard streams so that nothing hangs on this process. */
export class SandboxLauncher {
  readonly #options: LauncherOptions;

  constructor(options: LauncherOptions) {
    this.#options = options;
  }

  launch(request: LaunchRequest): ChildProcess {
    const { tools, asRoot, installationId, runnerFolder, sandboxRoot } = this.#options;
    const { candidate, paths, uid, kernelId } = request;
    const isolated = candidate.sandbox !== 'none';
    const { home, run, tmp, config } = paths;
    const view = isolated ? ownView : { home, run, tmp, config, runner: runnerFolder };
    const mounts = this.#mounts(request);
    const devices = request.devices.files.filter((file) => existsSync(file));
    if (candidate.sandbox === 'unshare') {
      placeMountPoints(sandboxRoot, request.devices.mounts, devices);
      const table = mountTable(sandboxRoot, mounts, devices, this.#options.hostMounts, request.memoryBytes);
      writeFileSync(paths.mounts, table);
    }
    const [file = '', ...args] = sandboxCommand(tools, {
      sandbox: candidate.sandbox,
      uid,
      groups: request.devices.groups,
      asRoot,
      cpus: request.cpus && formatNumberList(request.cpus),
      cgroupEntries: request.cgroupEntries,
      mounts,
      devices,
      root: sandboxRoot,
      mountTable: paths.mounts,
      hostname: request.hostname,
      processLimit: request.processLimit,
      home: view.home,
      shm: paths.shm,
      shmBytes: request.memoryBytes,
      runner: request.command(view),
    });
    writeFileSync(paths.environ, encodeEnvironment(request.environment(view)), { mode: 0o600 });
    const files = [openSync(paths.environ, 'r'), openSync(paths.log, 'a', 0o600), openSync(paths.status, 'a', 0o600)];
    const [environ, log, status] = files;
    try {
      unlinkSync(paths.environ);
      const child = spawn(file, args, {
        cwd: '/',
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', [labelName]: `${installationId}:${kernelId}` },
        stdio: [environ, log, log, status],
        detached: true,
      });
      child.unref();
      return child;
    } finally {
      for (const fd of files) closeSync(fd);
    }
  }

  #mounts({ paths, hasHosts, devices }: LaunchRequest): Mount[] {
    const { systemMounts } = this.#options;
    return [
      ...(hasHosts ? systemMounts.filter(({ target }) => target !== hostsInKernel) : systemMounts),
      ...(hasHosts ? [readOnly(paths.hosts, hostsInKernel)] : []),
      readOnly(this.#options.runnerFolder, ownView.runner),
      readOnly(paths.passwd, '/etc/passwd'),
      readOnly(paths.group, '/etc/group'),
      writable(paths.home, ownView.home),
      writable(paths.run, ownView.run),
      writable(paths.tmp, ownView.tmp),
      readOnly(paths.config, ownView.config),
      ...devices.mounts.map(({ source, target }) => readOnly(source, target)),
    ];
  }
}
