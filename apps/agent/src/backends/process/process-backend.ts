import { chmodSync, mkdirSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import { batchRunId, type IsolationReport, type KernelSpec } from '@backend.ai/contract';
import { AppError, type Clock, type ResourceSlots, slotsFromTexts } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import { readTail } from '../../files/tail.ts';
import { CgroupMeter } from '../../resources/cgroup-meter.ts';
import {
  cgroupPaths,
  closeCgroupHost,
  isFrozen,
  listCgroups,
  openCgroupHost,
  processesIn,
  readCgroupView,
  readOwnLimits,
  removeCgroups,
} from '../../resources/cgroups.ts';
import { type KernelResources, kernelResources, unknownAllocation } from '../../resources/kernel-resources.ts';
import { readMachineInventory, type SystemReserve } from '../../resources/machine-inventory.ts';
import { findLabels, isAlive } from '../../resources/processes.ts';
import { UidPool, uidBaseOf } from '../../resources/uid-pool.ts';
import { endOf } from '../../runner/last-record.ts';
import { installRunner } from '../../runner/runner-installation.ts';
import { preopenServices } from '../../services/service-ports.ts';
import type { Backend, BackendCapabilities, KernelEnd, KernelPlan, RecoveredKernel, Stray } from '../backend.ts';
import { endOfJob } from '../scratch/batch-job.ts';
import { agentUser, type KernelUser } from '../scratch/draft.ts';
import { allocationOf, machineBootId, readFacts } from '../scratch/facts.ts';
import { KeptHomes } from '../scratch/kept-homes.ts';
import { listScratch, scratchPaths, uidsInScratch } from '../scratch/scratch.ts';
import { scratchPlan } from '../scratch/scratch-plan.ts';
import { strayScratch } from '../scratch/stray-scratch.ts';
import { compileRunner } from './compile-runner.ts';
import { type KernelDraft, type ProcessContext, type ProcessFacts, saveFacts } from './draft.ts';
import { endProcesses } from './end-processes.ts';
import { chooseSandbox, isolationReport, type SandboxKind, sandboxCandidates } from './isolation.ts';
import { labelName, labelOf, SandboxLauncher } from './launcher.ts';
import { MemoryWatch } from './memory-watch.ts';
import { makeSandboxEtc, makeSandboxRoot, readHostMounts, systemMounts } from './mount-plan.ts';
import { ProcessKernel } from './process-kernel.ts';
import { RecentProcesses } from './recent-processes.ts';
import { outermost } from './runtime-files.ts';
import { findInterpreters, type Interpreter, type Runtime, runtimesOf } from './runtimes.ts';
import { readSandboxStatus } from './sandbox-status.ts';
import { sandboxWorks } from './self-test.ts';
import { launchStep } from './steps/launch.ts';
import { makeCgroupsStep, memoryBytesOf } from './steps/make-cgroups.ts';
import { findSandboxTools } from './tools.ts';

export interface ProcessBackendOptions {
  readonly dataDir: string;
  readonly installationId: string;
  readonly allowUnisolated: boolean;
  /** Only this sandbox; undefined: the strongest that works. */
  readonly sandbox?: SandboxKind | undefined;
  /** Whether control groups may be used where they can. */
  readonly useCgroups?: boolean | undefined;
  /** Instead of what the machine has. */
  readonly slots?: ResourceSlots | undefined;
  /** Kept from kernels; what is not named is decided by the size of the machine. */
  readonly reserve?: Partial<SystemReserve> | undefined;
  /** Instead of those found on the machine. */
  readonly interpreters?: readonly Interpreter[] | undefined;
  readonly processLimit?: number | undefined;
  readonly startDeadlineMs?: number | undefined;
  /** Where programs are looked for besides the system's folders. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Kernels are processes of this machine in sandboxes. */
export class ProcessBackend implements Backend {
  readonly kind = 'process';
  readonly #options: ProcessBackendOptions;
  readonly #scratchDir: string;
  #context: ProcessContext | undefined;
  #capabilities: BackendCapabilities | undefined;
  #runtimes: readonly Runtime[] = [];
  readonly #drafts = new Set<KernelDraft>();

  constructor(options: ProcessBackendOptions) {
    this.#options = options;
    this.#scratchDir = join(options.dataDir, 'scratch');
  }

  get capabilities(): BackendCapabilities {
    if (!this.#capabilities) throw new AppError('internal', 'The backend has not been started.');
    return this.#capabilities;
  }

  async start(): Promise<void> {
    const { dataDir, installationId, allowUnisolated, clock, logger, path } = this.#options;
    mkdirSync(this.#scratchDir, { recursive: true, mode: 0o700 });
    const asRoot = process.getuid?.() === 0;
    const view = readCgroupView();
    const [tools, interpreters] = await Promise.all([
      findSandboxTools(path),
      this.#options.interpreters ?? findInterpreters(path, dataDir),
    ]);
    const runnerFolder = installRunner(dataDir);
    await compileRunner(runnerFolder, interpreters);
    this.#runtimes = runtimesOf(interpreters, machineArchitecture());
    const etc = join(dataDir, 'sandbox-etc');
    makeSandboxEtc(etc);
    const mounts = systemMounts(etc, outermost(interpreters.flatMap(({ files }) => files)));
    const sandboxRoot = join(dataDir, 'sandbox-root');
    makeSandboxRoot(sandboxRoot, [
      ...mounts,
      { kind: 'bind', source: runnerFolder, target: '/opt/backend.ai/runner', writable: false },
    ]);
    const launcher = new SandboxLauncher({
      tools,
      asRoot,
      installationId,
      runnerFolder,
      systemMounts: mounts,
      sandboxRoot,
      hostMounts: readHostMounts(),
    });
    let cgroups = this.#options.useCgroups === false ? null : openCgroupHost(view, `backendai-${installationId}`);
    const uids = new UidPool(uidBaseOf(installationId));
    // Before the first is given away: the self-test ends whatever has its id.
    const keptHomes = new KeptHomes(join(dataDir, 'kept-homes'));
    for (const uid of [...uidsInScratch(this.#scratchDir), ...keptHomes.owners()]) uids.take(uid);
    const candidates = sandboxCandidates({ asRoot, tools }, this.#options.sandbox);
    const candidate = await chooseSandbox(candidates, { asRoot, allowUnisolated }, async (each) => {
      // Without a sandbox the kernel's user comes by the real path. Everything else in these folders is private by itself.
      if (each.sandbox === 'none' && each.ownUid)
        for (const folder of [dataDir, this.#scratchDir]) chmodSync(folder, 0o711);
      const test = { launcher, scratchDir: this.#scratchDir, dataDir, installationId, uids, clock, logger };
      if (await sandboxWorks(each, { ...test, cgroups })) return true;
      if (!cgroups || !(await sandboxWorks(each, { ...test, cgroups: null }))) return false;
      closeCgroupHost(cgroups);
      cgroups = null;
      return true;
    }).catch((error: unknown) => {
      if (cgroups) closeCgroupHost(cgroups);
      throw error;
    });
    const isolation = isolationReport(candidate, cgroups);
    this.#context = {
      installationId,
      candidate,
      isolation,
      cgroups,
      uids,
      keptHomes,
      launcher,
      memoryWatch: new MemoryWatch(clock),
      recentProcesses: new RecentProcesses(clock),
      processLimit: this.#options.processLimit ?? 512,
      startDeadlineMs: this.#options.startDeadlineMs ?? 30_000,
      clock,
      logger,
    };
    this.#capabilities = {
      isolation,
      images: this.#runtimes.map(({ image }) => image),
      inventory: readMachineInventory(readOwnLimits(view), this.#options.reserve, this.#options.slots),
      adoption: true,
    };
    logger.info('process backend ready', {
      isolation,
      images: this.#runtimes.map(({ image }) => image.name),
      cgroup_version: cgroups?.version ?? null,
    });
  }

  plan(spec: KernelSpec, requestId: string, resources: KernelResources): KernelPlan {
    if (spec.fake) throw new AppError('unsupported-feature', 'Only the simulated backend takes simulated behaviour.');
    if (spec.cluster?.network !== undefined) {
      throw new AppError('unsupported-feature', 'Kernels that are no containers have no network of their own.');
    }
    const runtime = this.#runtimes.find(({ image }) => image.name === spec.image || image.aliases.includes(spec.image));
    if (!runtime) {
      throw new AppError('unknown-image', `This agent does not offer the image "${spec.image}".`, {
        data: { image: spec.image, offered: this.#runtimes.map(({ image }) => image.name) },
      });
    }
    return this.#planOf({
      spec,
      requestId,
      slots: slotsFromTexts(spec.slots),
      runtime,
      paths: scratchPaths(this.#scratchDir, spec.kernelId),
      agentInside: agentInside(this.capabilities.isolation),
      resources,
      isolation: this.capabilities.isolation,
      uid: null,
      cgroups: [],
      child: null,
      monitor: null,
      init: null,
      kernel: null,
      keepHome: false,
    });
  }

  async recover(): Promise<RecoveredKernel[]> {
    const recovered: RecoveredKernel[] = [];
    for (const kernelId of listScratch(this.#scratchDir)) {
      const paths = scratchPaths(this.#scratchDir, kernelId);
      const facts = readFacts(paths);
      if (facts && facts.spec.kernelId === kernelId) recovered.push(this.#recoverOne(facts as ProcessFacts));
    }
    return recovered;
  }

  #recoverOne(facts: ProcessFacts): RecoveredKernel {
    const context = this.#started();
    const { spec, requestId } = facts;
    const allocation = allocationOf(facts);
    const paths = scratchPaths(this.#scratchDir, spec.kernelId);
    const sameBoot = facts.machineBootId === machineBootId();
    const draft: KernelDraft = {
      spec,
      requestId,
      slots: slotsFromTexts(spec.slots),
      runtime: null,
      paths,
      agentInside: agentInside(facts.isolation),
      resources: kernelResources(allocation ?? unknownAllocation),
      isolation: facts.isolation,
      uid: facts.uid,
      cgroups: facts.cgroups,
      child: null,
      monitor: sameBoot ? facts.monitor : null,
      init: sameBoot ? facts.init : null,
      kernel: null,
      keepHome: false,
    };
    const alive = draft.monitor !== null && isAlive(draft.monitor);
    const label = labelOf(facts.installationId, spec.kernelId);
    if (facts.state === 'running' && alive) {
      const { uid, cgroups, monitor, init } = draft;
      draft.kernel = new ProcessKernel({
        paths,
        isolation: facts.isolation,
        processes: { monitor, init, cgroups, label, uid },
        services: preopenServices(spec),
        paused: isFrozen(cgroups),
        child: null,
        memoryBytes: memoryBytesOf(draft),
        memoryWatch: context.memoryWatch,
        recentProcesses: context.recentProcesses,
        clock: context.clock,
        logger: context.logger.with({ kernel_id: spec.kernelId }),
      });
      draft.kernel.followRunner();
      this.#drafts.add(draft);
    }
    const plan = this.#planOf(draft, { ...context, installationId: facts.installationId });
    if (draft.kernel) return { spec, requestId, allocation, plan, outcome: { kind: 'running' } };
    if (facts.state !== 'running') return { spec, requestId, allocation, plan, outcome: { kind: 'not-started' } };
    const jobEnd = spec.batch ? endOf(paths.run, batchRunId) : undefined;
    const batch = jobEnd ? endOfJob(jobEnd) : null;
    return { spec, requestId, allocation, plan, outcome: { kind: 'ended', end: endMeanwhile(draft, sameBoot), batch } };
  }

  async strays(isKnown: (kernelId: string) => boolean): Promise<Stray[]> {
    const { clock, installationId, cgroups, uids } = this.#started();
    const nobody = { monitor: null, init: null, uid: null };
    const processes = [...findLabels(labelName)].flatMap(([label, pids]) => {
      const [owner, kernelId = ''] = label.split(':');
      if (owner !== installationId || isKnown(kernelId)) return [];
      const remove = (): Promise<void> =>
        endProcesses({ ...nobody, cgroups: [], label: `${labelName}=${label}` }, clock);
      return [{ name: `processes ${pids.join(', ')}`, kernelId, since: null, remove }];
    });
    const groups = (cgroups ? listCgroups(cgroups) : []).flatMap((name) => {
      if (isKnown(name) || !cgroups) return [];
      const paths = cgroupPaths(cgroups, name);
      const remove = async (): Promise<void> => {
        if (processesIn(paths).length > 0) await endProcesses({ ...nobody, cgroups: paths, label: '' }, clock);
        removeCgroups(paths);
      };
      return [{ name: `cgroup ${name}`, kernelId: name, since: null, remove }];
    });
    return [...processes, ...groups, ...strayScratch(this.#scratchDir, isKnown, uids)];
  }

  async expire(): Promise<void> {
    const { keptHomes, uids, clock } = this.#started();
    for (const uid of await keptHomes.expire(clock.now())) uids.release(uid);
  }

  async close(): Promise<void> {
    this.#context?.memoryWatch.close();
    if (this.#context?.cgroups) closeCgroupHost(this.#context.cgroups);
    for (const draft of this.#drafts) draft.kernel?.close();
    this.#drafts.clear();
  }

  #planOf(draft: KernelDraft, context: ProcessContext = this.#started()): KernelPlan {
    return scratchPlan({
      ...{ draft, drafts: this.#drafts, context, withHosts: true },
      save: (state) => saveFacts(draft, context, state),
      output: () => readTail(draft.paths.folder, 'sandbox.log', 4096).toString('utf8'),
      steps: { beforeFacts: [makeCgroupsStep(draft, context)], launch: launchStep(draft, context) },
    });
  }

  #started(): ProcessContext {
    if (!this.#context) throw new AppError('internal', 'The backend has not been started.');
    return this.#context;
  }
}

/** What the sandbox has written down, and the counters of control groups that still stand, tell about the end. */
function endMeanwhile(draft: KernelDraft, sameBoot: boolean): KernelEnd {
  const { exitCode } = readSandboxStatus(draft.paths);
  if (!sameBoot) return { exitCode, reason: 'host-restarted' };
  const meter = new CgroupMeter(draft.cgroups);
  const killed = meter.incidents().outOfMemory > 0 && (exitCode === null || exitCode === 137);
  meter.close();
  return { exitCode, reason: killed ? 'out-of-memory' : 'self-terminated' };
}

/** In a user namespace made by `unshare` the agent's user appears as 0; bubblewrap leaves it as it is. */
function agentInside({ sandbox }: IsolationReport): KernelUser {
  return sandbox === 'unshare' ? { uid: 0, gid: 0 } : agentUser();
}

function machineArchitecture(): string {
  const names: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64' };
  return names[arch()] ?? arch();
}
