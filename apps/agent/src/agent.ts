import { mkdirSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import {
  type AgentRegistration,
  type AgentService,
  agentFeatures,
  createAgentRouter,
  type Image,
  rpcVersions,
} from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  delay,
  newId,
  type StatusReason,
  slotsToTexts,
  systemClock,
  within,
} from '@backend.ai/core';
import { createRpcServer, type PeerIdentity, parseJoinToken, pinnedKeys, type RpcServer } from '@backend.ai/rpc';
import { BackgroundTasks, ensureRequestId, type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { Accelerators } from './accelerators/accelerators.ts';
import { pluginSources } from './accelerators/load-plugins.ts';
import { type AgentStatusView, agentStatus, type StatusSources } from './agent-status.ts';
import type { Backend } from './backends/backend.ts';
import { type ChosenBackend, openBackend } from './backends/open-backend.ts';
import { type AgentConfig, type AgentDependencies, type AgentOptions, parseAgentConfig } from './config.ts';
import { DataPort } from './data-port/data-port.ts';
import { Tickets } from './data-port/tickets.ts';
import { isNearlyFull } from './files/disk-full.ts';
import { AgentState } from './kernels/agent-state.ts';
import type { Kernel } from './kernels/kernel.ts';
import { KernelCommits } from './kernels/kernel-commits.ts';
import { KernelMeter } from './kernels/kernel-meter.ts';
import { Outbox } from './kernels/outbox.ts';
import type { StrayView } from './kernels/remains.ts';
import { ScratchMeter } from './kernels/scratch-meter.ts';
import { KernelSupervisor } from './kernels/supervisor.ts';
import { AllocationLedger } from './resources/allocation-ledger.ts';
import type { Inventory } from './resources/inventory.ts';
import { LocalAgentService } from './rpc/agent-service.ts';
import { ManagerLink } from './rpc/manager-link.ts';
import { agentVersion } from './service-facts.ts';
import { deviceMeasurements } from './statistics/device-measurements.ts';
import { MachineMeter } from './statistics/machine-meter.ts';

/** Everything that exists once the agent has started. */
interface Parts extends ChosenBackend, StatusSources {
  readonly service: AgentService;
  readonly lookForDevices: ReconcileLoop;
  readonly meters: Meters;
  readonly dataPort: DataPort;
  readonly server: RpcServer;
  readonly link: ManagerLink;
}

interface Meters {
  readonly kernels: KernelMeter;
  readonly scratch: ScratchMeter;
  readonly machine: MachineMeter;
}

/** What exists before anything listens. */
interface Prepared extends ChosenBackend {
  readonly state: AgentState;
  readonly accelerators: Accelerators;
  readonly inventory: Inventory;
}

const closeDeadlineMs = 8_000;

/** One agent: runs kernels on this machine for its manager. The place where its objects are built. */
export class Agent {
  readonly bootId: string = newId();
  readonly #config: AgentConfig;
  readonly #identity: PeerIdentity;
  readonly #dependencies: AgentDependencies;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #tasks: BackgroundTasks;
  readonly #startedAt: string;
  #prepared: Promise<Prepared> | undefined;
  #parts: Parts | undefined;
  #closing: Promise<void> | undefined;

  private constructor(config: AgentConfig, dependencies: AgentDependencies) {
    this.#config = config;
    this.#dependencies = dependencies;
    this.#identity = dependencies.identity;
    this.#clock = dependencies.clock ?? systemClock;
    this.#logger = dependencies.logger.with({ agent: dependencies.identity.id });
    this.#tasks = new BackgroundTasks(this.#logger);
    this.#startedAt = new Date(this.#clock.now()).toISOString();
  }

  /** @throws AppError `config-invalid` */
  static create(options: AgentOptions): Agent {
    const { identity, logger, clock, runtimes, fakeScript, strayGraceMs, faults, ...config } = options;
    const dependencies = { identity, logger, clock, runtimes, fakeScript, strayGraceMs, faults };
    const parsed = parseAgentConfig(config);
    if (identity.kind !== 'agent' || (parsed.agentId !== undefined && identity.id !== parsed.agentId)) {
      throw new AppError('config-invalid', 'The identity of the agent does not bear its name.');
    }
    return new Agent(parsed, dependencies);
  }

  /**
   * Takes over its kernels, listens, and begins to look for its manager; does not wait for one, nor for a container
   * engine.
   * @throws AppError `isolation-unavailable`, `port-in-use`, `config-invalid`
   */
  async start(
    options: {
      /** Instead of the configured one. */
      readonly joinToken?: string | undefined;
      /** The access key of who owns everything on this machine: the only one whose programs may run without isolation. */
      readonly installationOwner?: string | undefined;
    } = {},
  ): Promise<void> {
    const { joinToken = this.#config.joinToken, installationOwner } = options;
    await ensureRequestId(() => this.#start(joinToken, installationOwner));
  }

  /**
   * Finds out what the machine offers, which starts programs and takes a while; `start` waits for it, and does it if
   * nobody did before.
   * @throws AppError `isolation-unavailable`
   */
  async prepare(): Promise<void> {
    await this.#ensurePrepared();
  }

  /** Resolves when a manager has accepted the agent for the first time. */
  get registered(): Promise<void> {
    return this.#started().link.registered;
  }

  /** What managers call, without the way to here. */
  get service(): AgentService {
    return this.#started().service;
  }

  status(): AgentStatusView {
    const { bootId } = this;
    const facts = { agentId: this.#identity.id, bootId, version: agentVersion, startedAt: this.#startedAt };
    const sources = this.#started();
    return agentStatus({ ...facts, unusedEngine: sources.unusedEngine }, sources);
  }

  /** See `KernelSupervisor.sweepStrays`. */
  async sweepStrays(options: { readonly dryRun?: boolean } = {}): Promise<StrayView[]> {
    const { supervisor } = this.#started();
    return await ensureRequestId(() => supervisor.sweepStrays(options));
  }

  /**
   * Ends all kernels and waits for it, and for the manager to know: for the end of a whole cluster. Answers the ids of
   * kernels that outlived the deadline.
   */
  async endKernels(reason: StatusReason = 'cluster-shutdown', deadlineMs = 15_000): Promise<string[]> {
    const { supervisor, outbox, link } = this.#started();
    if (this.#closing) throw new AppError('shutting-down', 'The agent has let go of its kernels.');
    const until = this.#clock.monotonic() + deadlineMs;
    const left = await ensureRequestId(() => supervisor.endAll(reason, deadlineMs));
    while (outbox.pending.length > 0 && link.status.state === 'registered' && this.#clock.monotonic() < until) {
      await delay(this.#clock, 5);
    }
    return left;
  }

  /** Stops the agent. Its kernels go on, and the next start on the same data directory takes them over. */
  close(): Promise<void> {
    this.#closing ??= ensureRequestId(() => this.#close());
    return this.#closing;
  }

  #ensurePrepared(): Promise<Prepared> {
    this.#prepared ??= ensureRequestId(() => this.#prepare());
    return this.#prepared;
  }

  async #prepare(): Promise<Prepared> {
    const { dataDir, accelerators: plugins, path } = this.#config;
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const state = AgentState.open(join(dataDir, 'agent.json'));
    const dependencies = { ...this.#dependencies, logger: this.#logger };
    const { backend, unusedEngine } = await openBackend(this.#config, dependencies, state.installationId);
    const context = { path, clock: this.#clock, logger: this.#logger.with({ module: 'kernels' }) };
    const accelerators = new Accelerators({ ...context, sources: pluginSources(plugins, context) });
    await Promise.all([backend.start(), accelerators.refresh()]);
    accelerators.restrict(backend.capabilities.deviceRefusal ?? null);
    return { state, backend, unusedEngine, accelerators, inventory: accelerators.extend(this.#machineOf(backend)) };
  }

  async #start(joinToken: string | undefined, installationOwner: string | undefined): Promise<void> {
    const config = this.#config;
    const clock = this.#clock;
    const logger = this.#logger;
    const rpcLogger = logger.with({ module: 'rpc' });
    const { state, backend, unusedEngine, accelerators, inventory } = await this.#ensurePrepared();
    const outbox = Outbox.open(join(config.dataDir, 'outbox.jsonl'), { clock, logger });
    const ledger = new AllocationLedger(inventory, config.allocation);
    let link: ManagerLink | undefined;
    const running = (): Kernel[] => supervisor.running();
    const metering = { kernels: running, clock, logger: logger.with({ module: 'kernels' }) };
    const scratch = new ScratchMeter(metering);
    const { measureEveryMs: intervalMs } = config;
    const meters: Meters = {
      scratch,
      kernels: new KernelMeter({
        ...{ ...metering, intervalMs, scratchOf: (kernel) => scratch.sizeOf(kernel) },
        devicesOf: async ({ spec, allocation, handle }) => {
          const pids = (): number[] => handle?.pids?.() ?? [];
          return deviceMeasurements(await accelerators.measureKernel(spec.kernelId, allocation, pids));
        },
      }),
      machine: new MachineMeter({
        ...{ ...metering, intervalMs, folder: config.dataDir },
        devices: async () => deviceMeasurements(await accelerators.measureDevices()),
      }),
    };
    const supervisor = new KernelSupervisor({
      backend,
      ledger,
      accelerators,
      tasks: this.#tasks,
      diskFull: () => isNearlyFull(config.dataDir),
      report: (event) => {
        outbox.append(event);
        // That an order was taken its answer says: the event goes along with the next one, or with a heartbeat.
        if (event.type !== 'kernel-preparing') link?.hint();
      },
      usedBy: (kernel) => meters.kernels.conclude(kernel),
      onWarmSlots: () => link?.warmSlotsChanged(),
      clock,
      logger: logger.with({ module: 'kernels' }),
      faults: this.#dependencies.faults,
      strayGraceMs: this.#dependencies.strayGraceMs,
    });
    await supervisor.recover();
    const lookForDevices = new ReconcileLoop({
      name: 'look for devices',
      tickMs: config.accelerators.refreshEveryMs,
      clock,
      logger,
      run: async () => {
        await accelerators.refresh();
        accelerators.restrict(backend.capabilities.deviceRefusal ?? null);
        const found = accelerators.extend(this.#machineOf(backend));
        const before = JSON.stringify(slotsToTexts(ledger.capacity));
        ledger.inventory = found;
        if (JSON.stringify(slotsToTexts(ledger.capacity)) !== before) link?.registerAgain();
      },
    });
    const tickets = new Tickets(clock);
    const dataPort = new DataPort({
      ...config.dataPort,
      tickets,
      kernelOf: (kernelId) => supervisor.get(kernelId).running,
      clock,
      logger: logger.with({ module: 'data-port' }),
    });
    const agentId = this.#identity.id;
    const boundAddress = await dataPort.listen();
    const dataAddress = config.advertise.data ?? boundAddress;
    const commits = new KernelCommits(this.#tasks);
    const service = new LocalAgentService({
      agentId,
      bootId: this.bootId,
      version: agentVersion,
      state,
      supervisor,
      backend,
      installationOwner,
      commits,
      tickets,
      clock,
      dataAddress: () => dataAddress,
      certificate: dataPort.certificate,
    });
    const identity = this.#identity;
    const token = joinToken === undefined ? undefined : parseJoinToken(joinToken);
    const managerKeys = (): string[] => {
      // A used token stays in the configuration; a manager that it names may have been revoked since.
      const tokenKeys = token === undefined || state.hasUsed(token.text) ? [] : token.managerKeys;
      return [...config.managerKeys, ...tokenKeys, ...state.managerKeys];
    };
    if (managerKeys().length === 0) {
      throw new AppError('config-invalid', 'The agent knows no manager that it may obey.', {
        hint: 'Give it a join token: ./backend.ai mgr peers token agent',
      });
    }
    const directory = pinnedKeys('manager', managerKeys);
    const router = createAgentRouter(service);
    const server = createRpcServer({ router, identity, directory, allow: ['manager'], logger: rpcLogger, clock });
    const listening =
      'inProcessName' in config.rpc
        ? server.listenInProcess(config.rpc.inProcessName)
        : await server.listenWebSocket(config.rpc);
    const address = config.advertise.rpc ?? listening.address;
    link = new ManagerLink({
      addresses: config.managers,
      identity,
      managerKeys,
      onManagerKeys: (keys) => {
        state.keepManagerKeys(keys, joinToken);
        server.cutPeers(({ publicKey }) => managerKeys().includes(publicKey));
      },
      joinToken,
      registration: () => this.#registration(backend, ledger, address, dataAddress),
      kernels: () => supervisor.reports(),
      measurements: () => meters.kernels.measurements(),
      machine: () => meters.machine.metrics(),
      warmSlots: () => supervisor.warmSlots.reports(),
      onUnknown: (kernelIds) => {
        logger.warn('the manager has given kernels up', { kernels: kernelIds });
        for (const kernelId of kernelIds) supervisor.destroy(kernelId, 'kernel-lost', true);
      },
      outbox,
      clock,
      logger: rpcLogger,
    });
    this.#parts = {
      ...{
        service,
        outbox,
        state,
        backend,
        unusedEngine,
        ledger,
        accelerators,
        lookForDevices,
        supervisor,
        meters,
        dataPort,
      },
      ...{ server, link },
      ...{ address, dataAddress },
    };
    link.start();
    for (const meter of Object.values(meters)) meter.start();
    lookForDevices.start();
    const { isolation, images } = backend.capabilities;
    logger.info('agent started', {
      backend: backend.kind,
      isolation,
      slots: slotsToTexts(ledger.capacity),
      images: images.map(({ name }) => name),
      address,
      data_address: dataAddress,
    });
  }

  #machineOf({ capabilities: { inventory } }: Backend): Inventory {
    return this.#config.allocation.pinCpus ? inventory : { ...inventory, realCpus: false };
  }

  #registration(backend: Backend, ledger: AllocationLedger, address: string, dataAddress: string): AgentRegistration {
    const { isolation, images, swarm } = backend.capabilities;
    return {
      agentId: this.#identity.id,
      bootId: this.bootId,
      rpcVersion: rpcVersions.beginBatch,
      version: agentVersion,
      architecture: images[0]?.architecture ?? arch(),
      resourceGroup: this.#config.resourceGroup,
      backend: backend.kind,
      address,
      dataAddress,
      slots: slotsToTexts(ledger.capacity),
      images: images as Image[],
      isolation,
      ...(backend.warmSlots ? { features: [agentFeatures.warmSlots] } : {}),
      ...(swarm ? { swarm } : {}),
    };
  }

  async #close(): Promise<void> {
    const parts = this.#parts;
    if (!parts) return;
    const { server, supervisor, meters, lookForDevices, accelerators, link, dataPort, backend, outbox } = parts;
    const closing = (async () => {
      await Promise.all([
        server.close({ graceMs: 1_000 }),
        dataPort.close(),
        supervisor.release(),
        ...Object.values(meters).map((meter) => meter.stop()),
        lookForDevices.stop(),
      ]);
      await link.close(1_000);
      await backend.close();
      await accelerators.close();
      await this.#tasks.drain();
    })();
    await within(this.#clock, closeDeadlineMs, closing);
    outbox.close();
    this.#logger.info('agent stopped', { kernels: supervisor.reports().length });
  }

  #started(): Parts {
    if (!this.#parts) throw new AppError('internal', 'The agent has not been started.');
    return this.#parts;
  }
}

/** See `Agent.create`. */
export function createAgent(options: AgentOptions): Agent {
  return Agent.create(options);
}
