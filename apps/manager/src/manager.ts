import type { ApiServices, Scope } from '@backend.ai/contract';
import type { ConfigStore, EventBus, Leases, LiveValues } from '@backend.ai/coordination';
import { type Clock, delay, newId, type StatusReason, systemClock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import type { ListenOptions, PeerIdentity, RpcAddress } from '@backend.ai/rpc';
import { Lifecycle } from '@backend.ai/runtime';
import type { Snapshot } from '@backend.ai/scheduler';
import { BackgroundTasks, currentRequestId, type Logger } from '@backend.ai/telemetry';
import type { ClusterCounts, ManagerFacts } from './admin.ts';
import { AgentClients } from './clients/agent-clients.ts';
import { CallbackClient } from './clients/callback-client.ts';
import { type ManagerConfigInput, parseManagerConfig } from './config.ts';
import { BusinessLog, type ManagerEvents } from './events.ts';
import { createGateway } from './gateway.ts';
import { followChanges } from './hints.ts';
import type { Health } from './http/dependencies.ts';
import { createHttpServer, type HttpServerOptions } from './http/server.ts';
import { createImaging } from './imaging.ts';
import { openInstallationKey } from './installation.ts';
import { createMonitoring } from './monitoring.ts';
import { createPublicApi } from './public-api.ts';
import { type DutyName, type LeaderParts, leaderDuties } from './reconcilers/leader-duties.ts';
import { AgentRepository } from './repositories/agents.ts';
import { AuditRepository } from './repositories/audit.ts';
import { ClusterKeyRepository } from './repositories/cluster-keys.ts';
import { ClusterNetworkRepository } from './repositories/cluster-networks.ts';
import { InstallationRepository } from './repositories/installation.ts';
import { InstallationKeyRepository } from './repositories/installation-keys.ts';
import { KernelLogRepository } from './repositories/kernel-logs.ts';
import { KernelRepository } from './repositories/kernels.ts';
import { KeypairRepository } from './repositories/keypairs.ts';
import { type LedgerViolation, verifyLedger } from './repositories/ledger.ts';
import { PeerRepository } from './repositories/peers.ts';
import { QueueRepository } from './repositories/queue.ts';
import { QuotaRepository } from './repositories/quotas.ts';
import { ResourceGroupRepository } from './repositories/resource-groups.ts';
import { ResourcePresetRepository } from './repositories/resource-presets.ts';
import { SessionTransitions } from './repositories/session-transitions.ts';
import { SessionRepository } from './repositories/sessions.ts';
import { UsageRepository } from './repositories/usage.ts';
import { WarmPoolRepository } from './repositories/warm-pools.ts';
import { BusHint } from './scheduling/bus-hint.ts';
import { Leader } from './scheduling/leader.ts';
import { LoopTimes } from './scheduling/loop-times.ts';
import { SchedulingMemory } from './scheduling/scheduling-memory.ts';
import { SchedulingReader } from './scheduling/scheduling-reader.ts';
import { AgentDirectory } from './services/agents/agent-directory.ts';
import type { AgentGatewayService } from './services/agents/agent-gateway-service.ts';
import { AuditLog } from './services/audit/audit-log.ts';
import { ClusterService } from './services/cluster/cluster-service.ts';
import { ExplainService } from './services/explain/explain-service.ts';
import { FileService } from './services/files/file-service.ts';
import { SessionActivity } from './services/idle/session-activity.ts';
import { pullProgressOf } from './services/images/pull-progress.ts';
import { type AdminCredentials, InstallationService } from './services/installation/installation-service.ts';
import { InstallationKeyWatch } from './services/installation-keys/installation-key-watch.ts';
import { KernelService } from './services/kernels/kernel-service.ts';
import { LogFollower } from './services/kernels/log-follower.ts';
import { PausingService } from './services/kernels/pausing-service.ts';
import { RunningKernels } from './services/kernels/running-kernels.ts';
import { type DataPortDialler, SessionDataPort } from './services/kernels/session-data-port.ts';
import { KeypairChanges } from './services/keypairs/keypair-changes.ts';
import { KeypairService } from './services/keypairs/keypair-service.ts';
import { PeerService } from './services/peers/peer-service.ts';
import { endAllSessions } from './services/sessions/end-all-sessions.ts';
import { SessionCallbacks } from './services/sessions/session-callbacks.ts';
import { SessionChanges } from './services/sessions/session-changes.ts';
import { SessionCreation } from './services/sessions/session-creation.ts';
import { SessionService } from './services/sessions/session-service.ts';
import { StreamService } from './services/streams/stream-service.ts';
import { WarmPoolService } from './services/warm-pools/warm-pool-service.ts';

export interface ManagerOptions {
  readonly config: ManagerConfigInput;
  readonly database: Database;
  /** The same one, for what happens to sessions (`DatabaseHandle`). */
  readonly steadyDatabase: Database;
  readonly eventBus: EventBus;
  readonly leases: Leases;
  readonly liveValues: LiveValues;
  readonly configStore: ConfigStore;
  /** Of kind `manager`. */
  readonly identity: PeerIdentity;
  /** Where agents reach it. */
  readonly rpc?: { readonly inProcessName?: string; readonly webSocket?: ListenOptions };
  /** Where users reach it; absent: nowhere. */
  readonly http?: Omit<HttpServerOptions, 'version'>;
  /** Whether what requests need works; asked by `/health` of the API without a login. Absent: it always does. */
  readonly canServe?: () => Promise<boolean>;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** For tests: other means in place of the real ones. */
  readonly overrides?: { readonly dialDataPort?: DataPortDialler };
}

export interface ManagerAddresses {
  /** Of the public API. */
  readonly api: string | undefined;
  /** Of the agent gateway on TCP. */
  readonly rpc: RpcAddress | undefined;
  /** `inproc:NAME` of the agent gateway. */
  readonly rpcInProcess: string | undefined;
}

export interface Manager {
  /** Resolves when it listens and leads or has found another leader at work. @throws AppError `port-in-use` … */
  start(): Promise<ManagerAddresses>;
  /** Stops accepting, then loops, then connections. Sessions go on. The ports given to it stay open. */
  close(): Promise<void>;
  readonly addresses: ManagerAddresses;
  readonly services: ManagerServices;
}

export interface ManagerServices {
  readonly api: ApiServices;
  readonly sessions: SessionService;
  readonly kernels: KernelService;
  readonly files: FileService;
  readonly keypairs: KeypairService;
  readonly peers: PeerService;
  readonly agentGateway: AgentGatewayService;
  /** Makes what a new installation needs; answers the first superadmin's credentials. Idempotent. */
  ensureInstallation(): Promise<AdminCredentials>;
  /** Ends everything alive; answers how many sessions are still alive when the time is over. */
  endAllSessions(reason: StatusReason, timeoutMs: number): Promise<number>;
  facts(): ManagerFacts;
  counts(): Promise<ClusterCounts>;
  /** What a leader that took over now would decide upon. */
  schedulerSnapshot(): Promise<Snapshot>;
  /** Empty when the resource ledger is sound. */
  verifyLedger(): Promise<LedgerViolation[]>;
  /** Runs every loop to its end once more. For tests. */
  settle(): Promise<void>;
  /** Undefined while another manager leads. */
  leaderEpoch(): number | undefined;
  /** What happened to sessions, as this manager hears of it. Returns how to stop. */
  onSessionChange(listener: (change: ManagerEvents['session-changed']) => void): () => void;
}

const electionWaitMs = 2_000;
/** What the operator at the socket sees. */
const everybodys: Scope = { extent: 'all', userId: '', domain: '' };

/**
 * Builds a manager: every object is made here, in the order of who needs whom. Nothing listens or runs before `start`.
 * @throws AppError `config-invalid`
 */
export async function createManager(options: ManagerOptions): Promise<Manager> {
  const config = parseManagerConfig(options.config);
  const { database: db, leases, liveValues, configStore, identity, logger } = options;
  const clock = options.clock ?? systemClock;
  const eventBus = options.eventBus as EventBus<ManagerEvents>;
  // A restarted process is another one to the bus and to leases, whatever its operator calls it.
  const processName = `${config.managerId}-${newId().slice(-12)}`;
  const startedAt = new Date(clock.now()).toISOString();
  const tasks = new BackgroundTasks(logger);
  const log = new BusinessLog(logger);
  const box = await openInstallationKey(db, config.installationKeyFile);

  const keyWatch = new InstallationKeyWatch({
    ...{ file: config.installationKeyFile, box, identity, tickMs: config.tickMs, clock, logger },
    keys: new InstallationKeyRepository(db),
  });

  const sessionRows = new SessionRepository(db, options.steadyDatabase);
  const transitions = new SessionTransitions(options.steadyDatabase);
  const agentRows = new AgentRepository(db);
  const quotas = new QuotaRepository(db);

  const changes = new SessionChanges(eventBus, processName, logger, tasks);
  const directory = new AgentDirectory(agentRows, eventBus, tasks);
  const queue = new QueueRepository(db);
  const groupRows = new ResourceGroupRepository(db);
  const presetRows = new ResourcePresetRepository(db);
  const warmPoolRows = new WarmPoolRepository(db);
  const usageRows = new UsageRepository(db);
  const newMemory = (): SchedulingMemory => {
    const sources = { queue, groups: groupRows, quotas, usage: usageRows, warmPools: warmPoolRows, directory, clock };
    return new SchedulingMemory(new SchedulingReader(sources), clock, config.tickMs);
  };
  const memory = newMemory();
  const peers = new PeerService(new PeerRepository(db), clock, logger);
  const keypairs = new KeypairService({
    keypairs: new KeypairRepository(db),
    box,
    liveValues,
    clock,
    cacheMs: config.keypairCacheMs,
    logger: logger.with({ module: 'http' }),
    tasks,
  });
  const keypairChanges = new KeypairChanges(keypairs, eventBus, tasks);
  const audit = new AuditLog(new AuditRepository(db), logger);
  const installation = new InstallationService(new InstallationRepository(db), box, config.adminEmail, logger);
  const clients: AgentClients = new AgentClients({
    identity,
    clock,
    logger: logger.with({ module: 'rpc' }),
    contactOf: async (agentId) => {
      const [agent, publicKey] = await Promise.all([directory.find(agentId), peers.publicKeyOf('agent', agentId)]);
      return agent && publicKey ? { address: agent.address, publicKey, rpcVersion: agent.rpcVersion } : undefined;
    },
  });
  const imaging = createImaging({ config, db, eventBus, liveValues, directory, clients, box, tasks, clock });
  const { catalog, images, registryHttp, taskService } = imaging;
  const sessions = new SessionService({
    sessions: sessionRows,
    transitions,
    changes,
    audit,
    clock,
    pullProgress: (record) => pullProgressOf(clients, record),
  });
  const callbackClient = new CallbackClient({
    clock,
    timeoutMs: config.callbackTimeoutMs,
    allowPrivate: config.allowPrivateCallbacks,
  });
  const callbacks = new SessionCallbacks({
    sessions: sessionRows,
    client: callbackClient,
    tasks,
    clock,
    log,
    backoff: { initialMs: config.callbackBackoffMs, maxMs: 60_000 },
  });
  changes.onAnnounced((change) => callbacks.changed(change));
  const creation = new SessionCreation({
    sessions: sessionRows,
    images,
    agents: directory,
    audit,
    checkCallback: (url) => callbackClient.checkUrl(url),
    onCreated(session, row) {
      memory.queued(session, row);
      const { callbackUrl: url, requestId } = session;
      callbacks.created(session.id, url === null ? null : { url, requestId });
      const { id: sessionId, kernelId, name, owner } = session;
      const created = { from: null, to: 'PENDING', reason: 'queued', agentId: null } as const;
      changes.announce([{ sessionId, kernelId, name, accessKey: owner.accessKey, ...created }]);
    },
  });
  const kernelLogs = new KernelLogRepository(db);
  const running = new RunningKernels(clock);
  const activity = new SessionActivity({ liveValues, clock, tasks, logger });
  const monitoring = createMonitoring(activity, {
    ...{ db, liveValues, configStore, sessions, clock, tasks, logger },
    tickMs: config.tickMs,
  });
  const { kernelStatistics, machineStatistics, statistics, idle, idleSettings } = monitoring;
  const kernels = new KernelService(sessions, sessionRows, kernelLogs, clients, running, activity);
  const pausing = new PausingService({ sessions, rows: sessionRows, clients, tasks, logger });
  const logFollower = new LogFollower({
    sessions,
    rows: sessionRows,
    logs: kernelLogs,
    agents: clients,
    changes,
    clock,
  });
  const dataPort = new SessionDataPort(kernels, options.overrides?.dialDataPort);
  const files = new FileService(dataPort, sessions);
  const streams = new StreamService(dataPort, sessions);
  const cluster = new ClusterService(agentRows, sessions, machineStatistics, {
    version: config.version,
    startedAt,
    embedded: config.embedded,
  });

  const loopTimes = new LoopTimes(liveValues, clock, tasks);
  const schedulerLogger = logger.with({ module: 'scheduler' });
  const leaderParts: LeaderParts = {
    ...{ config, memory, transitions, quotas, box, directory, idle, changes, clients, tasks, clock },
    sessions: sessionRows,
    kernels: new KernelRepository(db),
    agents: agentRows,
    clusterKeys: new ClusterKeyRepository(db),
    clusterNetworks: new ClusterNetworkRepository(db),
    warmPools: warmPoolRows,
    catalog,
    logger: schedulerLogger,
  };
  const leader = new Leader<DutyName>({
    onEnd: (name) => loopTimes.ended(name),
    leases,
    holder: processName,
    ttlMs: config.leaderTtlMs,
    tickMs: config.tickMs,
    clock,
    logger: schedulerLogger,
    duties: (again) => {
      memory.forgetAll();
      return leaderDuties(leaderParts, again);
    },
  });

  const explanations = new ExplainService({
    ...{ sessions, rows: sessionRows, queue, clock, deadlinesMs: config.deadlinesMs },
    known: () => (leader.epoch === undefined ? undefined : memory.known),
    read: (now) => newMemory().snapshot(now),
  });

  followChanges({ leader, memory, changes, directory, catalog, clients, running, activity });
  const ruleHint = (): void => {
    memory.rulesChanged();
    leader.hint('schedule', currentRequestId());
  };
  const rules = new BusHint(eventBus, tasks, 'rules-changed', ruleHint, ['tenants-changed']);
  const poolHints = new BusHint(eventBus, tasks, 'warm-pools-changed', () => {
    memory.warmSlotsChanged();
    leader.hint('pools', currentRequestId());
  });
  const warmPools = new WarmPoolService({
    ...{ pools: warmPoolRows, presets: presetRows, images, agents: directory, catalog, clock },
    onChange: () => poolHints.announce(),
  });
  const gateway = createGateway({
    ...{
      config,
      db,
      identity,
      directory,
      clients,
      peers,
      pausing,
      warmPools,
      changes,
      leader,
      log,
      tasks,
      logger,
      clock,
    },
    ...{ kernelStatistics, machineStatistics, statistics, transitions },
    agents: agentRows,
    logs: kernelLogs,
  });
  const { agentGateway, rpcServer, syncPeers } = gateway;

  const api = createPublicApi({
    ...{ db, imaging, monitoring, creation, sessions, kernels, logFollower, pausing, explanations, warmPools },
    ...{ cluster, keypairs, directory, clients, box, audit, clock },
    rows: { agents: agentRows, groups: groupRows, presets: presetRows, quotas, usage: usageRows },
    onTenantsChanged: () => keypairChanges.announce(),
    onRulesChanged: () => rules.announce(),
  });
  let started = false;
  const health = async (): Promise<Health> => ({
    live: true,
    ready: started && ((await options.canServe?.()) ?? true),
  });
  const http =
    options.http &&
    createHttpServer(
      { services: api, keypairs, files, streams, health, logger: logger.with({ module: 'http' }), clock },
      { ...options.http, version: config.version },
    );

  let addresses: ManagerAddresses = { api: undefined, rpc: undefined, rpcInProcess: undefined };
  /** Of what other managers tell. */
  const followers = [changes, directory, catalog, keypairChanges, rules, poolHints];
  const lifecycle = new Lifecycle({ logger, stopDeadlineMs: config.stopDeadlineMs, clock });

  return {
    async start() {
      // Stopped in reverse: the edge first, then loops, then what they need.
      await lifecycle.start([
        { name: 'background tasks', stop: () => tasks.drain() },
        { name: 'registries', stop: () => registryHttp.close() },
        { name: 'tasks', stop: () => taskService.stop() },
        { name: 'callbacks', stop: () => callbacks.stop() },
        { name: 'agent clients', stop: () => clients.close() },
        {
          name: 'changes',
          start: () => {
            for (const follower of followers) follower.start();
          },
          stop: () => {
            for (const follower of followers) follower.stop();
          },
        },
        { name: 'own registration', start: () => peers.registerManager(identity) },
        { name: 'installation keys', start: () => keyWatch.start(), stop: () => keyWatch.stop() },
        {
          name: 'leader',
          start: async () => {
            leader.start();
            const waited = new AbortController();
            void leader.elected().then(() => waited.abort());
            await delay(clock, electionWaitMs, waited.signal);
          },
          stop: () => leader.stop(),
        },
        { name: 'activity', stop: () => activity.stop() },
        { name: 'idle settings', start: () => idleSettings.start(), stop: () => idleSettings.stop() },
        { name: 'peers', start: () => syncPeers.start(), stop: () => syncPeers.stop() },
        {
          name: 'agent gateway',
          start: async () => {
            const { inProcessName, webSocket } = options.rpc ?? {};
            const rpcInProcess =
              inProcessName === undefined ? undefined : rpcServer.listenInProcess(inProcessName).address;
            const rpc = webSocket && (await rpcServer.listenWebSocket(webSocket));
            addresses = { ...addresses, rpc, rpcInProcess };
          },
          stop: () => rpcServer.close({ graceMs: 1_000 }),
        },
        {
          name: 'public api',
          start: async () => {
            const listening = await http?.listen();
            addresses = { ...addresses, api: listening?.url };
          },
          stop: () => http?.close(2_000),
        },
      ]);
      started = true;
      return addresses;
    },
    close() {
      started = false;
      return lifecycle.stop();
    },
    get addresses() {
      return addresses;
    },
    services: {
      api,
      sessions,
      kernels,
      files,
      keypairs,
      peers,
      agentGateway,
      ensureInstallation: () => installation.ensureInstallation(),
      endAllSessions: (reason, timeoutMs) =>
        endAllSessions({ sessions, rows: sessionRows, changes, clock }, reason, timeoutMs),
      facts: () => ({
        managerId: config.managerId,
        version: config.version,
        startedAt,
        embedded: config.embedded,
        epoch: leader.epoch ?? null,
        revoked: gateway.isRevoked(),
        api: addresses.api ?? null,
        rpc: addresses.rpc?.address ?? addresses.rpcInProcess ?? null,
        connectedAgents: rpcServer.connected().flatMap(({ kind, id }) => (kind === 'agent' ? [id] : [])),
      }),
      async counts() {
        const [agents, sessions] = await Promise.all([agentRows.list(), sessionRows.countByStatus(everybodys)]);
        const byStatus: Record<string, number> = {};
        for (const agent of agents) byStatus[agent.status] = (byStatus[agent.status] ?? 0) + 1;
        return { agents: byStatus, sessions };
      },
      // What this leader knows; else of a memory of its own, so that the one that loops work with is left alone.
      schedulerSnapshot: async () => {
        const now = clock.now();
        const known = leader.epoch === undefined ? undefined : memory.known;
        return known?.snapshot(now) ?? (await newMemory().snapshot(now));
      },
      verifyLedger: () => verifyLedger(db),
      async settle() {
        await idleSettings.settle();
        await leader.settle();
      },
      leaderEpoch: () => leader.epoch,
      onSessionChange: (listener) => changes.onChange(listener),
    },
  };
}
