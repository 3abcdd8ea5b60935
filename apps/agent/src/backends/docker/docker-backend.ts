import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { batchRunId, type KernelSpec, openEgress } from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  hasCode,
  parseSubnet,
  type ResourceSlots,
  type Subnet,
  slotsFromTexts,
} from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import type { DeviceContribution } from '../../accelerators/accelerator-plugin.ts';
import { readCgroupView, readOwnLimits } from '../../resources/cgroups.ts';
import { type KernelResources, kernelResources, unknownAllocation } from '../../resources/kernel-resources.ts';
import { readMachineInventory, type SystemReserve } from '../../resources/machine-inventory.ts';
import { endOf } from '../../runner/last-record.ts';
import type {
  Backend,
  BackendCapabilities,
  BackendClusterNetworks,
  BackendImages,
  CreateStep,
  KernelEnd,
  KernelPlan,
  RecoveredKernel,
  RememberedKernel,
  Stray,
} from '../backend.ts';
import { endOfJob } from '../scratch/batch-job.ts';
import { allocationOf, machineBootId, readFacts } from '../scratch/facts.ts';
import { readConsole } from '../scratch/runner-kernel.ts';
import { listScratch, scratchPaths } from '../scratch/scratch.ts';
import { scratchPlan } from '../scratch/scratch-plan.ts';
import { strayScratch } from '../scratch/stray-scratch.ts';
import { sweepCarriedPrograms } from './carried-programs.ts';
import { ClusterNetworks } from './cluster-networks.ts';
import { containerEnd } from './container-end.ts';
import { type DockerContext, type DockerDraft, type DockerFacts, saveFacts } from './draft.ts';
import { type ContainerInfo, Engine, foundNobody } from './engine.ts';
import { deviceRefusal, refuseUnseenDevices } from './engine-traits.ts';
import type { Firewall } from './firewall.ts';
import { readKnownEngine } from './known-engine.ts';
import { containerName, labels, ownedBy } from './labels.ts';
import { isolationOf, openContext } from './open-context.ts';
import { createContainerStep } from './steps/create-container.ts';
import { ensureImageStep } from './steps/ensure-image.ts';
import { makeNetworkStep } from './steps/make-network.ts';
import { kernelOf, startContainerStep } from './steps/start-container.ts';
import { DockerWarmSlots } from './warm-slots.ts';

export interface DockerBackendOptions {
  readonly dataDir: string;
  readonly installationId: string;
  readonly agentId: string;
  readonly socketPath: string;
  /** Where the networks of sessions get their addresses: `10.99.0.0/16`. */
  readonly subnetPool: string;
  /** Bits of the network of one session. */
  readonly subnetPrefix: number;
  /** How many of them are to be ready for sessions to come. */
  readonly spareNetworks: number;
  /** The same for networks of sessions over a swarm. */
  readonly clusterSubnetPool: string;
  readonly clusterSubnetPrefix: number;
  readonly encryptClusterNetworks: boolean;
  readonly readOnlyRoot: boolean;
  /** Whether there may be kernels that reach the ports of this machine. */
  readonly allowUnguarded: boolean;
  /** Instead of that of this machine; null: none. */
  readonly firewall?: Firewall | null | undefined;
  readonly processLimit: number;
  readonly startDeadlineMs: number;
  /** Instead of what the machine has. */
  readonly slots?: ResourceSlots | undefined;
  /** Kept from kernels; what is not named is decided by the size of the machine. */
  readonly reserve?: Partial<SystemReserve> | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What an earlier life of the agent wrote down, and the container of it that is there. */
type LeftKernel = readonly [facts: DockerFacts, container: ContainerInfo | null];

/** How often an engine that did not answer is asked again. */
const outageWatchMs = 1_000;
/** Of an engine that has never answered. */
const nothingLimited = { MemoryLimit: false, PidsLimit: false, CpuCfsQuota: false };

/** Kernels are containers of an engine on this machine. */
export class DockerBackend implements Backend {
  readonly kind = 'docker';
  readonly #options: DockerBackendOptions;
  readonly #scratchDir: string;
  #context: DockerContext | undefined;
  #capabilities: BackendCapabilities | undefined;
  readonly clusterNetworks: BackendClusterNetworks;
  readonly #drafts = new Set<DockerDraft>();
  readonly #engine: Engine;
  readonly #pool: Subnet;
  readonly #clusterPool: Subnet;
  readonly #outageWatch: ReconcileLoop;
  /** Nobody was there when the engine was to be asked for the first time. */
  #wasAway = false;
  #left: readonly LeftKernel[] = [];

  /** @throws AppError `config-invalid` */
  constructor(options: DockerBackendOptions) {
    const { socketPath, clusterSubnetPrefix, encryptClusterNetworks, clock, logger } = options;
    this.#options = options;
    this.#scratchDir = join(options.dataDir, 'scratch');
    this.#pool = subnetOf(options.subnetPool);
    this.#clusterPool = subnetOf(options.clusterSubnetPool);
    const engine = new Engine({ socketPath, clock });
    this.#engine = engine;
    this.clusterNetworks = new ClusterNetworks({
      ...{ engine, pool: this.#clusterPool, prefix: clusterSubnetPrefix, encrypted: encryptClusterNetworks, clock },
    });
    this.#outageWatch = new ReconcileLoop({
      ...{ name: 'end of an outage', tickMs: outageWatchMs, clock, logger },
      run: () => engine.recheck(),
    });
  }

  get capabilities(): BackendCapabilities {
    if (!this.#capabilities) throw new AppError('internal', 'The backend has not been started.');
    return this.#capabilities;
  }

  get outage(): AppError | undefined {
    return this.#engine.outage;
  }

  async start(): Promise<void> {
    const { dataDir, logger } = this.#options;
    mkdirSync(this.#scratchDir, { recursive: true, mode: 0o700 });
    this.#refuseOthers();
    if (listScratch(this.#scratchDir).length === 0) sweepCarriedPrograms(dataDir);
    const known = readKnownEngine(dataDir) ?? { isolation: isolationOf(nothingLimited, false), images: [] };
    const context = (): DockerContext | undefined => this.#context;
    this.#capabilities = {
      get isolation() {
        return context()?.isolation ?? known.isolation;
      },
      get images() {
        return context()?.installed.images ?? known.images;
      },
      get swarm() {
        return context()?.swarm.node;
      },
      get deviceRefusal() {
        const traits = context()?.traits;
        return traits ? deviceRefusal(traits) : null;
      },
      inventory: readMachineInventory(readOwnLimits(readCgroupView()), this.#options.reserve, this.#options.slots),
      adoption: true,
    };
    try {
      await this.#reachEngine();
    } catch (error) {
      if (!hasCode(error, 'engine-unavailable')) throw error;
      this.#wasAway = foundNobody(error);
      logger.warn('the container engine does not answer; kernels wait for it', { error });
    }
  }

  /** Nothing happens once it has been reached. @throws AppError `engine-unavailable`, `engine-failed`, `isolation-unavailable` */
  async #reachEngine(): Promise<DockerContext> {
    if (this.#context) return this.#context;
    const { installationId, agentId } = this.#options;
    const context = await openContext({
      ...this.#options,
      ...{ engine: this.#engine, pool: this.#pool, clusterPool: this.#clusterPool, scratchDir: this.#scratchDir },
      owner: { installationId, agentId },
    });
    this.#context = context;
    for (const part of [context.installed, context.swarm, this.#outageWatch]) part.start();
    return context;
  }

  checkDevices(devices: DeviceContribution): void {
    refuseUnseenDevices(this.#started().traits, devices);
  }

  plan(spec: KernelSpec, requestId: string, resources: KernelResources): KernelPlan {
    if (spec.fake) throw new AppError('unsupported-feature', 'Only the simulated backend takes simulated behaviour.');
    if (spec.cluster?.hosts.some(({ address }) => address !== undefined)) {
      throw new AppError(
        'unsupported-feature',
        'Containers of one session have to be on one machine, or in one swarm.',
        {
          hint: 'Ask for the cluster mode single-node, or make a swarm of the engines: docs/user/docker.md.',
        },
      );
    }
    if (spec.cluster?.network !== undefined && !this.capabilities.swarm) {
      throw new AppError('unsupported-feature', 'The container engine of this agent is in no swarm any more.');
    }
    return this.#planOf(this.#draftOf(spec, requestId, resources));
  }

  readonly warmSlots: DockerWarmSlots = new DockerWarmSlots({
    context: () => this.#started(),
    drafts: this.#drafts,
    draftOf: (...args) => this.#draftOf(...args),
    planOf: (draft) => this.#planOf(draft),
    left: () => this.#left,
  });

  remembered(): RememberedKernel[] {
    return this.#facts().map((facts) => {
      const { spec, requestId } = facts;
      return { spec, requestId, allocation: allocationOf(facts), isWarmSlot: isWarmSlot(facts) };
    });
  }

  async recover(): Promise<RecoveredKernel[]> {
    this.#left = await this.#findLeft(await this.#reachEngine());
    const kernels = this.#left.filter(([facts]) => !isWarmSlot(facts));
    this.#started().networks.start();
    return kernels.map(([facts, container]) => this.#recoverOne(facts, container));
  }

  /** What an earlier life of the agent wrote down. */
  #facts(): DockerFacts[] {
    return listScratch(this.#scratchDir).flatMap((kernelId) => {
      const facts = readFacts(scratchPaths(this.#scratchDir, kernelId)) as DockerFacts | null;
      return facts?.spec.kernelId === kernelId ? [facts] : [];
    });
  }

  async #findLeft({ engine, owner, networks }: DockerContext): Promise<LeftKernel[]> {
    const containers = new Map<string, string>();
    for (const { Id, Labels } of await engine.listContainers(ownedBy(owner.installationId))) {
      containers.set(Labels[labels.kernel] ?? '', Id);
    }
    const left: LeftKernel[] = [];
    for (const facts of this.#facts()) {
      const { kernelId } = facts.spec;
      const whose = facts.warm ? kernelId : facts.spec.sessionId;
      networks.hold(whose, kernelId, facts.spec.egress ?? openEgress, facts.network ?? null);
      const id = containers.get(kernelId);
      left.push([facts, id === undefined ? null : await engine.inspectContainer(id)]);
    }
    await networks.adopt();
    return left;
  }

  #recoverOne(facts: DockerFacts, info: ContainerInfo | null): RecoveredKernel {
    const { spec, requestId } = facts;
    const allocation = allocationOf(facts);
    const draft = this.#draftOf(spec, requestId, kernelResources(allocation ?? unknownAllocation), facts);
    draft.containerId = info?.Id ?? null;
    const plan = this.#planOf(draft);
    if (facts.state !== 'running') return { spec, requestId, allocation, plan, outcome: { kind: 'not-started' } };
    if (info?.State.Running) {
      draft.kernel = kernelOf(draft, this.#started(), info);
      draft.kernel.followRunner();
      this.#drafts.add(draft);
      return { spec, requestId, allocation, plan, outcome: { kind: 'running' } };
    }
    const jobEnd = spec.batch ? endOf(draft.paths.run, batchRunId) : undefined;
    const batch = jobEnd ? endOfJob(jobEnd) : null;
    const { paths } = draft;
    return {
      ...{ spec, requestId, allocation },
      plan: { ...plan, launched: () => ({ logs: async (maxBytes) => readConsole(paths, maxBytes) }) },
      outcome: { kind: 'ended', end: this.#endMeanwhile(facts, info), batch },
    };
  }

  /** A container that is gone altogether was removed by somebody else. */
  #endMeanwhile({ machineBootId: boot }: DockerFacts, info: ContainerInfo | null): KernelEnd {
    const { exitCode, outOfMemory } = containerEnd(info);
    if (boot !== machineBootId()) return { exitCode, reason: 'host-restarted' };
    if (!info) return { exitCode, reason: 'kernel-lost' };
    if (outOfMemory) return { exitCode, reason: 'out-of-memory' };
    const takenAlong = this.#wasAway && !this.#started().outlivesEngine;
    return { exitCode, reason: takenAlong ? 'engine-restarted' : 'self-terminated' };
  }

  async strays(isKnown: (kernelId: string) => boolean): Promise<Stray[]> {
    const { engine, owner, networks, uids } = this.#started();
    const containers = await engine.listContainers(ownedBy(owner.installationId));
    return [
      ...containers
        .filter(({ Labels }) => !isKnown(Labels[labels.kernel] ?? ''))
        .map(({ Id, Names, Created, Labels }) => ({
          name: `container ${(Names[0] ?? Id).replace(/^\//, '')}`,
          kernelId: Labels[labels.kernel] ?? null,
          since: Created * 1000,
          remove: () => engine.removeContainer(Id),
        })),
      ...(await engine.listImages(ownedBy(owner.installationId))).map(({ Id, Created, Labels }) => ({
        name: `image ${Id}`,
        kernelId: Labels?.[labels.kernel] ?? null,
        since: Created * 1000,
        remove: () => engine.removeImage(Id),
      })),
      ...(await networks.unused()).map(({ name, createdAt, remove }) => ({
        name: `network ${name}`,
        kernelId: null,
        since: createdAt,
        remove,
      })),
      ...strayScratch(this.#scratchDir, isKnown, uids),
    ];
  }

  async expire(): Promise<void> {
    const { keptHomes, uids, clock } = this.#started();
    for (const uid of await keptHomes.expire(clock.now())) uids.release(uid);
  }

  /** @throws AppError `engine-unavailable` before the engine has answered */
  get images(): BackendImages {
    const { images, installed } = this.#started();
    return {
      state: (name) => images.state(name),
      preload: (wanted) => images.preload(wanted),
      async purge(name, forced) {
        const removed = await images.purge(name, forced);
        installed.hint();
        return removed;
      },
    };
  }

  async close(): Promise<void> {
    this.#context?.images.close();
    await Promise.all([this.#outageWatch.stop(), this.#context?.installed.stop(), this.#context?.swarm.stop()]);
    for (const draft of this.#drafts) draft.kernel?.close();
    this.#drafts.clear();
    await this.#context?.networks.close();
  }

  #draftOf(spec: KernelSpec, requestId: string, resources: KernelResources, facts?: DockerFacts): DockerDraft {
    const { agentInside, isolation } = this.#started();
    return {
      ...{ spec, requestId, resources, agentInside },
      slots: slotsFromTexts(spec.slots),
      paths: scratchPaths(this.#scratchDir, spec.kernelId),
      isolation: facts?.isolation ?? isolation,
      containerName: facts?.containerName ?? containerName(spec.image, spec.kernelId),
      uid: facts?.uid ?? null,
      image: null,
      services: facts?.services ?? [],
      warm: facts?.warm ?? null,
      network: facts?.warm ? spec.kernelId : spec.sessionId,
      subnet: null,
      containerId: null,
      container: null,
      kernel: null,
      keepHome: false,
    };
  }

  #planOf(draft: DockerDraft): KernelPlan {
    const context = this.#started();
    const inTurn = (step: CreateStep): CreateStep => ({ ...step, turns: context.turns });
    return scratchPlan({
      ...{ draft, drafts: this.#drafts, context, withHosts: false },
      save: (state) => saveFacts(draft, context, state),
      output: async () => (await draft.kernel?.logs(4096)) ?? '',
      steps: {
        afterFacts: [
          ensureImageStep(draft, context),
          inTurn(makeNetworkStep(draft, context)),
          inTurn(createContainerStep(draft, context)),
        ],
        launch: inTurn(startContainerStep(draft, context)),
      },
    });
  }

  /** Kernels of another backend cannot be followed here, and what they left must not be taken for strays. */
  #refuseOthers(): void {
    const others = listScratch(this.#scratchDir).filter((kernelId) => {
      const facts = readFacts(scratchPaths(this.#scratchDir, kernelId));
      return facts !== null && facts.backend !== 'docker';
    });
    if (others.length === 0) return;
    throw new AppError('config-invalid', 'Kernels that are no containers are still in the folder of this agent.', {
      data: { kernels: others },
      hint: 'Start the agent with backend = "process" and end their sessions first.',
    });
  }

  #started(): DockerContext {
    if (!this.#context)
      throw this.outage ?? new AppError('engine-unavailable', 'The container engine has not been reached yet.');
    return this.#context;
  }
}

function isWarmSlot({ warm }: DockerFacts): boolean {
  return warm !== undefined && warm.state !== 'claimed';
}

/** @throws AppError `config-invalid` */
function subnetOf(text: string): Subnet {
  const subnet = parseSubnet(text);
  if (!subnet) throw new AppError('config-invalid', `${text} is no range of addresses.`);
  return subnet;
}
