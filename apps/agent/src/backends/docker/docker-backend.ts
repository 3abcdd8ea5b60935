import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { batchRunId, type IsolationReport, type KernelSpec, openEgress } from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  canonicalArchitecture,
  parseSubnet,
  type ResourceSlots,
  type Subnet,
  slotsFromTexts,
} from '@backend.ai/core';
import { BackgroundTasks, type Logger } from '@backend.ai/telemetry';
import { readCgroupView, readOwnLimits } from '../../resources/cgroups.ts';
import { type KernelResources, kernelResources, unknownAllocation } from '../../resources/kernel-resources.ts';
import { readMachineInventory, type SystemReserve } from '../../resources/machine-inventory.ts';
import { UidPool, uidBaseOf } from '../../resources/uid-pool.ts';
import { exitCodeOf } from '../../runner/last-record.ts';
import { installRunner } from '../../runner/runner-installation.ts';
import type {
  Backend,
  BackendCapabilities,
  BackendClusterNetworks,
  BackendImages,
  KernelEnd,
  KernelPlan,
  RecoveredKernel,
  Stray,
} from '../backend.ts';
import { endOfJob } from '../scratch/batch-job.ts';
import { agentUser } from '../scratch/draft.ts';
import { allocationOf, machineBootId, readFacts } from '../scratch/facts.ts';
import { KeptHomes } from '../scratch/kept-homes.ts';
import { readConsole } from '../scratch/runner-kernel.ts';
import { listScratch, scratchPaths, uidsInScratch } from '../scratch/scratch.ts';
import { scratchPlan } from '../scratch/scratch-plan.ts';
import { strayScratch } from '../scratch/stray-scratch.ts';
import { carryPrograms, sweepCarriedPrograms } from './carried-programs.ts';
import { ClusterNetworks } from './cluster-networks.ts';
import { containerEnd } from './container-end.ts';
import { openFilesWithin } from './container-options.ts';
import { type DockerContext, type DockerDraft, type DockerFacts, saveFacts } from './draft.ts';
import { type ContainerInfo, Engine, type EngineInfo } from './engine.ts';
import { type Firewall, findFirewall } from './firewall.ts';
import { guardMachine } from './guard-machine.ts';
import { DockerImageEngine } from './images/docker-image-engine.ts';
import { ImageStore } from './images/image-store.ts';
import { InstalledImages } from './images/installed-images.ts';
import { withDeadlines } from './images/with-deadlines.ts';
import { containerName, labels, ownedBy } from './labels.ts';
import { SessionNetworks } from './session-networks.ts';
import { createContainerStep } from './steps/create-container.ts';
import { ensureImageStep } from './steps/ensure-image.ts';
import { makeNetworkStep } from './steps/make-network.ts';
import { kernelOf, startContainerStep } from './steps/start-container.ts';
import { SwarmMembership } from './swarm.ts';
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

/** A fetch that says nothing new for so long has failed. */
const pullStallMs = 60_000;
/** Others put images into the engine, too, and make swarms of engines. */
const engineScanMs = 20_000;

/** Kernels are containers of an engine on this machine. */
export class DockerBackend implements Backend {
  readonly kind = 'docker';
  readonly #options: DockerBackendOptions;
  readonly #scratchDir: string;
  #context: DockerContext | undefined;
  #capabilities: BackendCapabilities | undefined;
  #clusterNetworks: ClusterNetworks | undefined;
  readonly #drafts = new Set<DockerDraft>();

  constructor(options: DockerBackendOptions) {
    this.#options = options;
    this.#scratchDir = join(options.dataDir, 'scratch');
  }

  get capabilities(): BackendCapabilities {
    if (!this.#capabilities) throw new AppError('internal', 'The backend has not been started.');
    return this.#capabilities;
  }

  async start(): Promise<void> {
    const { dataDir, installationId, agentId, socketPath, subnetPrefix, clock, logger } = this.#options;
    const pool = subnetOf(this.#options.subnetPool);
    const clusterPool = subnetOf(this.#options.clusterSubnetPool);
    mkdirSync(this.#scratchDir, { recursive: true, mode: 0o700 });
    this.#refuseOthers();
    if (listScratch(this.#scratchDir).length === 0) sweepCarriedPrograms(dataDir);
    const engine = new Engine({ socketPath, clock });
    const info = await engine.info();
    const imageEngine = withDeadlines(engine, new DockerImageEngine(engine.docker));
    const images = new ImageStore({
      ...{ engine: imageEngine, clock, pullStallMs },
      tasks: new BackgroundTasks(logger),
      architecture: canonicalArchitecture(info.Architecture),
    });
    const installed = new InstalledImages({ engine: imageEngine, clock, logger, tickMs: engineScanMs });
    const swarm = new SwarmMembership({ engine, pool, clusterPool, clock, logger, tickMs: engineScanMs });
    const owner = { installationId, agentId };
    const uids = new UidPool(uidBaseOf(installationId));
    const keptHomes = new KeptHomes(join(dataDir, 'kept-homes'));
    for (const uid of [...uidsInScratch(this.#scratchDir), ...keptHomes.owners()]) uids.take(uid);
    const security = (info.SecurityOptions ?? []).join(' ');
    const networks = (firewall: Firewall | null): SessionNetworks =>
      new SessionNetworks({ engine, owner, pool, prefix: subnetPrefix, firewall });
    // A bridge of Podman comes with the first container on it.
    const areMadeHere = async (): Promise<boolean> => (await engine.isPodman()) || (await networks(null).areMadeHere());
    const { firewall: given = findFirewall(pool), allowUnguarded } = this.#options;
    const firewall = await guardMachine(given, { areMadeHere, allowUnguarded, logger });
    const isolation = isolationOf(info, firewall !== null);
    this.#context = {
      ...{ owner, engine, images, installed, swarm, uids, keptHomes, isolation, clock, logger },
      networks: networks(firewall),
      runnerFolder: installRunner(dataDir),
      carried: shared(() => carryPrograms(dataDir)),
      // An engine without root maps its own user to root of the container.
      agentInside: security.includes('name=rootless') ? { uid: 0, gid: 0 } : agentUser(),
      shiftsUsers: security.includes('name=userns'),
      processLimit: this.#options.processLimit,
      openFiles: openFilesWithin(readFileSync('/proc/self/limits', 'utf8')),
      readOnlyRoot: this.#options.readOnlyRoot,
      startDeadlineMs: this.#options.startDeadlineMs,
    };
    await Promise.all([installed.scan(), swarm.look()]);
    installed.start();
    swarm.start();
    this.#clusterNetworks = new ClusterNetworks({
      ...{ engine, pool: clusterPool, prefix: this.#options.clusterSubnetPrefix, clock },
      encrypted: this.#options.encryptClusterNetworks,
    });
    this.#capabilities = {
      isolation,
      get images() {
        return installed.images;
      },
      get swarm() {
        return swarm.node;
      },
      inventory: readMachineInventory(readOwnLimits(readCgroupView()), this.#options.reserve, this.#options.slots),
      adoption: true,
    };
    logger.info('docker backend ready', {
      engine: info.ServerVersion,
      isolation,
      images: this.#capabilities.images.map(({ name }) => name),
    });
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
    left: () => this.#left(),
  });

  async recover(): Promise<RecoveredKernel[]> {
    const kernels = (await this.#left()).filter(([{ warm }]) => !warm || warm.state === 'claimed');
    return kernels.map(([facts, container]) => this.#recoverOne(facts, container));
  }

  /** What an earlier life of the agent wrote down, with the containers that there are. */
  async #left(): Promise<Array<readonly [DockerFacts, ContainerInfo | null]>> {
    const { engine, owner, networks } = this.#started();
    const containers = new Map<string, string>();
    for (const { Id, Labels } of await engine.listContainers(ownedBy(owner.installationId))) {
      containers.set(Labels[labels.kernel] ?? '', Id);
    }
    const left: Array<readonly [DockerFacts, ContainerInfo | null]> = [];
    for (const kernelId of listScratch(this.#scratchDir)) {
      const facts = readFacts(scratchPaths(this.#scratchDir, kernelId)) as DockerFacts | null;
      if (facts?.spec.kernelId !== kernelId) continue;
      networks.hold(facts.warm ? kernelId : facts.spec.sessionId, kernelId, facts.spec.egress ?? openEgress);
      const id = containers.get(kernelId);
      left.push([facts, id === undefined ? null : await engine.inspectContainer(id)]);
    }
    await networks.guard();
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
    const exitCode = spec.batch ? exitCodeOf(draft.paths.run, batchRunId) : null;
    const batch = exitCode === null ? null : endOfJob(exitCode);
    const { paths } = draft;
    return {
      ...{ spec, requestId, allocation },
      plan: { ...plan, launched: () => ({ logs: async (maxBytes) => readConsole(paths, maxBytes) }) },
      outcome: { kind: 'ended', end: endMeanwhile(info, facts.machineBootId === machineBootId()), batch },
    };
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

  /** @throws AppError `internal` before `start` */
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

  get clusterNetworks(): BackendClusterNetworks | undefined {
    return this.#clusterNetworks;
  }

  async close(): Promise<void> {
    this.#context?.images.close();
    await Promise.all([this.#context?.installed.stop(), this.#context?.swarm.stop()]);
    for (const draft of this.#drafts) draft.kernel?.close();
    this.#drafts.clear();
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
      containerId: null,
      container: null,
      kernel: null,
      keepHome: false,
    };
  }

  #planOf(draft: DockerDraft): KernelPlan {
    const context = this.#started();
    return scratchPlan({
      ...{ draft, drafts: this.#drafts, context, withHosts: false },
      save: (state) => saveFacts(draft, context, state),
      output: async () => (await draft.kernel?.logs(4096)) ?? '',
      steps: {
        afterFacts: [
          ensureImageStep(draft, context),
          makeNetworkStep(draft, context),
          createContainerStep(draft, context),
        ],
        launch: startContainerStep(draft, context),
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
    if (!this.#context) throw new AppError('internal', 'The backend has not been started.');
    return this.#context;
  }
}

/** @throws AppError `config-invalid` */
function subnetOf(text: string): Subnet {
  const subnet = parseSubnet(text);
  if (!subnet) throw new AppError('config-invalid', `${text} is no range of addresses.`);
  return subnet;
}

/** The same answer for all who ask; what failed is tried again. */
function shared<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

/** Only what the engine says it can limit counts as limited. */
function isolationOf(info: EngineInfo, guarded: boolean): IsolationReport {
  return {
    sandbox: 'docker',
    ownUid: process.getuid?.() === 0,
    memory: info.MemoryLimit === false ? 'none' : 'cgroup',
    processes: info.PidsLimit === false ? 'none' : 'cgroup',
    cpu: info.CpuCfsQuota === false ? 'none' : 'cgroup',
    network: 'isolated',
    machine: guarded ? 'closed' : 'open',
    egress: guarded ? 'enforced' : 'open',
  };
}

/** A container that is gone altogether was removed by somebody else. */
function endMeanwhile(info: ContainerInfo | null, sameBoot: boolean): KernelEnd {
  const { exitCode, outOfMemory } = containerEnd(info);
  if (!sameBoot) return { exitCode, reason: 'host-restarted' };
  if (!info) return { exitCode, reason: 'kernel-lost' };
  return { exitCode, reason: outOfMemory ? 'out-of-memory' : 'self-terminated' };
}
