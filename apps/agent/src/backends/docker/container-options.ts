import type { KernelSpec } from '@backend.ai/contract';
import { AppError, type ResourceSlots } from '@backend.ai/core';
import type Docker from 'dockerode';
import type { DeviceContribution } from '../../accelerators/accelerator-plugin.ts';
import type { KernelResources } from '../../resources/kernel-resources.ts';
import { formatNumberList } from '../../resources/numa.ts';
import { runnerCommand } from '../../runner/index.ts';
import type { KernelUser } from '../scratch/draft.ts';
import { kernelEnvironment } from '../scratch/kernel-environment.ts';
import { ownView } from '../scratch/kernel-view.ts';
import type { ScratchPaths } from '../scratch/scratch.ts';
import { type CarriedPrograms, carriedCommand } from './carried-programs.ts';
import type { ClusterAddresses } from './cluster-addresses.ts';
import { environmentFor, type KernelImage } from './kernel-image.ts';

/** What a container may use. */
export interface ContainerResources {
  /** Of processor time, in cores. */
  readonly cpus: number;
  /** Only these cores, as the engine writes them: `0-3,8`. Absent: any. */
  readonly cpuset?: string | undefined;
  readonly memoryBytes: number;
  /** Of /dev/shm; it counts as memory. */
  readonly shmemBytes: number;
  /** Processes and threads. */
  readonly processes: number;
  readonly devices: DeviceContribution;
}

export interface ContainerRequest {
  readonly spec: KernelSpec;
  readonly image: KernelImage;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly paths: ScratchPaths;
  readonly user: KernelUser;
  readonly runnerFolder: string;
  /** What runs in any image. */
  readonly carried: CarriedPrograms | null;
  /** Of the session on this machine. */
  readonly network: string;
  /** Its runner waits for a session. */
  readonly isWarm: boolean;
  readonly resources: ContainerResources;
  readonly limits: UserLimits;
  /** Where it finds the other kernels of its session; null: the engine tells it their names. */
  readonly addresses: ClusterAddresses | null;
  /** Whether the image's own files cannot be changed by the kernel. */
  readonly readOnlyRoot: boolean;
  /** Whether the engine shifts user ids of containers unless told not to. */
  readonly shiftsUsers: boolean;
  /** Whether there is IPv6 on this machine: a container is refused a setting that its kernel does not have. */
  readonly knowsIPv6: boolean;
}

/** Where they are inside. */
const carriedFolder = '/opt/backend.ai/programs';
const cfsPeriodMicros = 100_000;
const mostOfAnything = 1_048_576;

/** What each process, or each user, may have at most. */
export interface UserLimits {
  readonly openFiles: number;
  /** Null: as many as the engine gives. */
  readonly processes: number | null;
  /** Bytes that are never swapped, as drivers of accelerators and fast networks want them; they count as memory. -1: any. */
  readonly lockedMemory: number;
}

export function containerResources(
  { shmem }: Pick<KernelSpec, 'shmem'>,
  image: Pick<KernelImage, 'shmemBytes'>,
  slots: ResourceSlots,
  { allocation, devices }: KernelResources,
  processes: number,
): ContainerResources {
  const memoryBytes = Number((slots.mem ?? 0n) / 1000n);
  return {
    cpus: Number(slots.cpu ?? 1000n) / 1000,
    ...(allocation.cpus ? { cpuset: formatNumberList(allocation.cpus) } : {}),
    devices,
    memoryBytes,
    shmemBytes: Math.min(shmem ?? image.shmemBytes, memoryBytes),
    processes,
  };
}

/**
 * From /proc/self/limits and /proc/self/status: an engine that runs under the same limit as we do cannot give more, unless
 * it has the right to raise it. For open files and processes the machine has limits besides, which nobody may exceed.
 */
export function limitsWithin(limits: string, status: string): UserLimits {
  const hardLimit = (name: string): number => {
    const [, hard = ''] = new RegExp(`^Max ${name}\\s+\\S+\\s+(\\S+)`, 'm').exec(limits) ?? [];
    return /^\d+$/.test(hard) ? Number(hard) : Number.POSITIVE_INFINITY;
  };
  const within = (name: string): number => Math.min(mostOfAnything, hardLimit(name));
  const locked = mayRaiseLimits(status) ? Number.POSITIVE_INFINITY : hardLimit('locked memory');
  return {
    openFiles: within('open files'),
    processes: within('processes'),
    lockedMemory: Number.isFinite(locked) ? locked : -1,
  };
}

/** CAP_SYS_RESOURCE. */
function mayRaiseLimits(status: string): boolean {
  const [, capabilities = '0'] = /^CapEff:\s+([0-9a-f]+)$/m.exec(status) ?? [];
  return ((BigInt(`0x${capabilities}`) >> 24n) & 1n) === 1n;
}

/** The whole container: what runs in it, what it sees, what it may. Nothing is published, nothing hangs on the agent. */
export function containerOptions(request: ContainerRequest): Docker.ContainerCreateOptions {
  const { spec, image, user } = request;
  const given = environmentFor(image, spec.slots);
  const environment = kernelEnvironment(spec, ownView, user, given, request.resources.devices.environ);
  return {
    name: request.name,
    // By content: the name may mean something else by now.
    Image: image.id,
    Hostname: spec.hostname,
    Labels: { ...request.labels },
    User: `${user.uid}:${user.gid}`,
    WorkingDir: ownView.home,
    // Instead of what the image would start.
    Entrypoint: runnerOf(request),
    Cmd: [],
    Env: Object.entries(environment).map(([key, value]) => `${key}=${value}`),
    Healthcheck: { Test: ['NONE'] } as Docker.ContainerCreateOptions['Healthcheck'],
    NetworkingConfig: { EndpointsConfig: { [firstNetworkOf(request)]: endpointOf(request) } },
    HostConfig: hostConfig(request),
  };
}

/**
 * On which kernels of its session know it by name; its own name means its address there. That over several machines, where
 * it has one: that of this machine is joined besides.
 */
function firstNetworkOf({ spec, network }: ContainerRequest): string {
  return spec.cluster?.network ?? network;
}

function endpointOf({ spec, addresses }: ContainerRequest): Docker.EndpointSettings {
  if (!addresses) return { Aliases: [spec.hostname] };
  return { IPAMConfig: { IPv4Address: addresses.own } };
}

/** The runner of shells brings what it is written in, so that an image needs nothing but a shell. */
function runnerOf({ image: { language, interpreter, name }, carried, isWarm }: ContainerRequest): string[] {
  const folders = { runnerDirectory: ownView.runner, runDirectory: ownView.run, homeDirectory: ownView.home, isWarm };
  if (language === 'python') return runnerCommand(language, interpreter, folders);
  const options = { ...folders, carried: carried ? carriedFolder : undefined };
  if (language === 'node') return runnerCommand(language, interpreter, options);
  if (!carried) {
    throw new AppError('unsupported-feature', `This agent cannot drive the shell of ${name}.`, {
      hint: 'It does so with its own Node.js, whose libraries it finds with ldd: install that on its machine.',
    });
  }
  const shell = interpreter.startsWith('/') ? interpreter : undefined;
  return runnerCommand(language, carriedCommand(carriedFolder, 'node'), { ...options, shell });
}

function hostConfig(request: ContainerRequest): Docker.HostConfig {
  const { spec, resources, limits, addresses } = request;
  return {
    Mounts: mountsOf(request),
    NetworkMode: firstNetworkOf(request),
    // Names of the session's own kernels only: the engine would ask name servers on its behalf.
    ...(spec.egress?.policy === 'none' ? { Dns: ['127.0.0.1'] } : {}),
    ...(addresses ? { ExtraHosts: addresses.others.map(({ name, address }) => `${name}:${address}`) } : {}),
    // The first process reaps what is left over and passes signals on; the runner is its child.
    Init: true,
    ReadonlyRootfs: request.readOnlyRoot,
    CapDrop: ['ALL'],
    // The engine's seccomp profile stays in force, as nothing is said about it.
    SecurityOpt: ['no-new-privileges'],
    ...(request.shiftsUsers ? { UsernsMode: 'host' } : {}),
    IpcMode: 'private',
    // The firewall is one of IPv4. Of addresses that every interface gives itself, nothing else would keep them, and nobody
    // in a container may change this.
    ...(request.knowsIPv6 ? { Sysctls: { 'net.ipv6.conf.all.disable_ipv6': '1' } } : {}),
    CpuPeriod: cfsPeriodMicros,
    CpuQuota: Math.max(1_000, Math.round(resources.cpus * cfsPeriodMicros)),
    CpuShares: Math.max(2, Math.round(resources.cpus * 1024)),
    ...(resources.cpuset === undefined ? {} : { CpusetCpus: resources.cpuset }),
    ...devicesOf(resources.devices),
    Memory: resources.memoryBytes,
    // The same: no swap besides.
    MemorySwap: resources.memoryBytes,
    ShmSize: resources.shmemBytes,
    PidsLimit: resources.processes,
    Ulimits: [
      { Name: 'nofile', Soft: limits.openFiles, Hard: limits.openFiles },
      ...(limits.processes === null ? [] : [{ Name: 'nproc', Soft: limits.processes, Hard: limits.processes }]),
      { Name: 'memlock', Soft: limits.lockedMemory, Hard: limits.lockedMemory },
      { Name: 'core', Soft: 0, Hard: 0 },
    ],
    RestartPolicy: { Name: 'no' },
    LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '2' } },
  };
}

/** What accelerators need; nothing of it stands there for a kernel without any. */
function devicesOf({ files, groups, deviceRequests }: DeviceContribution): Docker.HostConfig {
  return {
    ...(files.length === 0
      ? {}
      : { Devices: files.map((file) => ({ PathOnHost: file, PathInContainer: file, CgroupPermissions: 'rwm' })) }),
    ...(groups.length === 0 ? {} : { GroupAdd: groups.map(String) }),
    ...(deviceRequests.length === 0
      ? {}
      : {
          DeviceRequests: deviceRequests.map(({ driver, deviceIds, capabilities }) => ({
            Driver: driver,
            DeviceIDs: deviceIds,
            Capabilities: capabilities,
          })),
        }),
  };
}

function mountsOf({ paths, runnerFolder, carried, resources }: ContainerRequest): Docker.MountSettings[] {
  const bind = (Source: string, Target: string, ReadOnly: boolean): Docker.MountSettings => ({
    Type: 'bind',
    Source,
    Target,
    ReadOnly,
  });
  return [
    bind(paths.home, ownView.home, false),
    bind(paths.run, ownView.run, false),
    bind(paths.tmp, ownView.tmp, false),
    bind(runnerFolder, ownView.runner, true),
    ...(carried ? [bind(carried.folder, carriedFolder, true)] : []),
    bind(paths.passwd, '/etc/passwd', true),
    bind(paths.group, '/etc/group', true),
    bind(paths.config, ownView.config, true),
    ...resources.devices.mounts.map(({ source, target }) => bind(source, target, true)),
  ];
}
