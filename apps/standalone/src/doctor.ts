import { constants } from 'node:fs';
import { access, chmod, mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { cpus, freemem, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import {
  Accelerators,
  type BackendCapabilities,
  examineEngine,
  ProcessBackend,
  pluginSources,
} from '@backend.ai/agent';
import { type Clock, formatBinarySize, hasCode, newId, systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { engineFindings, gpuFinding } from './doctor-engine.ts';
import { type Finding, finding } from './finding.ts';

export interface DoctorOptions {
  readonly port: number;
  /** Where programs are looked for. */
  readonly path: string;
  /** Folder of the cluster, or where it will be. */
  readonly dataDir: string;
  /** Of the container engine. */
  readonly engineSocket: string;
  readonly clock?: Clock;
}

/** Tries what a cluster on this machine would use. Everything is really tried, in a temporary folder. */
export async function examineMachine(options: DoctorOptions): Promise<Finding[]> {
  const findings = await Promise.all([
    examineNode(),
    examineSandboxes(options),
    examineContainers(options.engineSocket),
    examineAccelerators(options),
    examinePort(options.port),
    examineRoom(options.dataDir),
  ]);
  return findings.flat();
}

function examineNode(): Finding {
  return finding('Node.js', 'ok', process.version);
}

async function examineSandboxes(options: DoctorOptions): Promise<Finding[]> {
  const folder = await mkdtemp(join(tmpdir(), 'backendai-doctor-'));
  // As root, programs without a sandbox are other users and come by the real path.
  await chmod(folder, 0o711);
  try {
    const bubblewrap = await tryBackend(options, folder, 'bubblewrap');
    const unshare = await tryBackend(options, folder, 'unshare');
    const best = bubblewrap ?? unshare ?? (await tryBackend(options, folder, 'none'));
    return [
      bubblewrap
        ? finding('bubblewrap', 'ok', 'works; it will be used')
        : finding('bubblewrap', 'optional', 'not installed or not permitted', 'Install the package bubblewrap.'),
      unshare
        ? finding('unshare', 'ok', bubblewrap ? 'works; used where bubblewrap is missing' : 'works; it will be used')
        : finding('unshare', 'optional', 'namespaces are not permitted, or util-linux is missing'),
      ...(bubblewrap || unshare
        ? []
        : [
            finding(
              'Isolation',
              'missing',
              'no sandbox works here; a cluster refuses to run programs',
              best
                ? 'Install bubblewrap, allow unprivileged user namespaces, or accept the risk with --allow-unisolated.'
                : 'Install bubblewrap and util-linux, or allow unprivileged user namespaces.',
            ),
          ]),
      ...(best ? examineLimits(best) : []),
      ...examineRuntimes(best),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function tryBackend(
  { path, clock = systemClock }: DoctorOptions,
  folder: string,
  sandbox: 'bubblewrap' | 'unshare' | 'none',
): Promise<BackendCapabilities | undefined> {
  const backend = new ProcessBackend({
    dataDir: join(folder, sandbox),
    installationId: newId().slice(-12),
    allowUnisolated: sandbox === 'none',
    sandbox,
    path,
    clock,
    logger: silentLogger,
  });
  try {
    await backend.start();
    const { capabilities } = backend;
    await backend.close();
    return capabilities;
  } catch (error) {
    if (hasCode(error, 'isolation-unavailable')) return undefined;
    throw error;
  }
}

function examineLimits({ isolation }: BackendCapabilities): Finding[] {
  const rootHint = 'Run as root, or give this user a delegated control group (systemd: Delegate=yes).';
  return [
    isolation.ownUid
      ? finding('User ids', 'ok', 'each kernel has one of its own')
      : finding('User ids', 'optional', 'all kernels run as this user', 'Only root can give each kernel its own.'),
    isolation.memory === 'cgroup'
      ? finding('Memory limit', 'ok', 'by control group')
      : finding('Memory limit', 'optional', `by ${isolation.memory === 'watched' ? 'watching' : 'nothing'}`, rootHint),
    isolation.processes === 'none'
      ? finding('Process limit', 'missing', 'none', rootHint)
      : finding('Process limit', 'ok', `by ${isolation.processes === 'cgroup' ? 'control group' : 'rlimit'}`),
    isolation.cpu === 'cgroup'
      ? finding('CPU limit', 'ok', 'by control group')
      : finding('CPU limit', 'optional', 'none: kernels compete for the CPUs', rootHint),
    finding('Network', 'ok', isolation.network === 'host' ? "kernels share this machine's" : 'of their own'),
  ];
}

function examineRuntimes(best: BackendCapabilities | undefined): Finding[] {
  const names = best?.images.map((image) => image.name) ?? [];
  return [
    finding('Images', names.length > 0 ? 'ok' : 'missing', names.join(', ') || 'no runtime found'),
    finding(
      'Python',
      names.some((name) => name.startsWith('local/python')) ? 'ok' : 'optional',
      names.filter((name) => name.startsWith('local/python')).join(', ') || 'not found',
      names.some((name) => name.startsWith('local/python')) ? '' : 'Install python3 (3.8 or newer) to run Python.',
    ),
  ];
}

async function examineContainers(socket: string): Promise<Finding[]> {
  const engine = await examineEngine(socket);
  const devices = (await readdir('/dev')).filter((name) => /^(nvidia\d+|kfd)$/.test(name));
  return [...engineFindings(engine), gpuFinding(devices, engine)];
}

/** What agents would find here by themselves. */
async function examineAccelerators({ path, clock = systemClock }: DoctorOptions): Promise<Finding[]> {
  const context = { clock, logger: silentLogger };
  const sources = pluginSources({ plugins: ['auto'], settings: {} }, { ...context, path });
  const accelerators = new Accelerators({ ...context, sources });
  await accelerators.refresh();
  return accelerators.status().map(({ name, state, problem, devices }) => {
    if (state === 'failed') return finding(`Plugin ${name}`, 'optional', problem ?? '', 'See to its driver.');
    return finding(`Plugin ${name}`, 'ok', devices.map(({ model }) => model).join(', ') || 'no devices');
  });
}

async function examinePort(port: number): Promise<Finding> {
  const free = await new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
  return free
    ? finding('Port', 'ok', `${port} is free`)
    : finding('Port', 'optional', `${port} is in use`, 'By a cluster of yours, perhaps; else start with --port.');
}

async function examineRoom(dataDir: string): Promise<Finding[]> {
  let folder = dataDir;
  while (!(await exists(folder))) folder = join(folder, '..');
  const { bavail, bsize } = await statfs(folder);
  const free = BigInt(bavail) * BigInt(bsize);
  const writable = await access(folder, constants.W_OK).then(
    () => true,
    () => false,
  );
  return [
    finding(
      'Machine',
      'ok',
      `${cpus().length} CPUs, ${formatBinarySize(freemem())} of ${formatBinarySize(totalmem())} memory free`,
    ),
    !writable
      ? finding('Data folder', 'missing', `${folder} cannot be written`, 'Name another one with --data-dir.')
      : free < 1n << 30n
        ? finding(
            'Data folder',
            'missing',
            `${dataDir}, only ${formatBinarySize(free)} free`,
            'Make room, or use --data-dir.',
          )
        : finding('Data folder', 'ok', `${dataDir}, ${formatBinarySize(free)} free`),
  ];
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
