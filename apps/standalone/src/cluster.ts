import { rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { Agent, agentHandlers } from '@backend.ai/agent';
import { EmbeddedConfigStore, EmbeddedLeases, InProcessEventBus, InProcessLiveValues } from '@backend.ai/coordination';
import { AppError } from '@backend.ai/core';
import {
  type DatabaseHandle,
  defaultTemplateDirectory,
  managerMigrations,
  migrate,
  migrationDeadlines,
  openPglite,
} from '@backend.ai/database';
import {
  createManager,
  createOperator,
  defaultAdminEmail,
  type Manager,
  managerHandlers,
  managerVersion,
  type Operator,
  openInstallation,
  operatorHandlers,
} from '@backend.ai/manager';
import { loadOrCreateIdentity, type PeerIdentity } from '@backend.ai/rpc';
import { AdminSocket, type DirectoryLock, Lifecycle, lockDirectory, type Part } from '@backend.ai/runtime';
import { BackgroundTasks, createLogger, ensureRequestId, LogFile, type Logger } from '@backend.ai/telemetry';
import { type ClusterConfig, parseClusterConfig } from './config.ts';
import {
  type ClusterRecord,
  type Credentials,
  type DataDirectory,
  dataDirectory,
  ensureAgentId,
  makeDataDirectory,
  writePrivateJson,
} from './data-directory.ts';

/** Sessions get this long to end before their kernels are killed from below, in milliseconds. */
const endSessionsMs = 20_000;
const stopDeadlineMs = 30_000;

export interface StopOptions {
  /** Kernels go on, and are adopted by the next start. */
  readonly keepSessions: boolean;
}

/**
 * The whole platform in this process: database, coordination, manager and agent, wired with the embedded adapters. The
 * links between manager and agent are in-process, with the same frames, authentication and deadlines as on a network.
 *
 * The data directory belongs to one process at a time; the database's lock sees to that.
 */
export class Cluster {
  readonly config: ClusterConfig;
  readonly directory: DataDirectory;
  readonly startedAt: string = new Date().toISOString();
  /** How long each part took to start, in milliseconds. */
  timings: ReadonlyArray<{ name: string; ms: number }> = [];
  readonly #logFile: LogFile;
  readonly #logger: Logger;
  readonly #tasks: BackgroundTasks;
  readonly #lifecycle: Lifecycle;
  #parts: { database: DatabaseHandle; manager: Manager; agent: Agent } | undefined;
  #credentials: Credentials | undefined;
  #stopping: Promise<void> | undefined;
  readonly #stopped: Promise<void>;
  #resolveStopped!: () => void;

  private constructor(config: ClusterConfig) {
    this.config = config;
    this.directory = dataDirectory(config.dataDir);
    makeDataDirectory(this.directory, { passable: config.allowUnisolated && process.getuid?.() === 0 });
    this.#logFile = new LogFile({ path: this.directory.logFile });
    this.#logger = createLogger({ component: 'cluster', level: config.logLevel, destination: this.#logFile });
    this.#tasks = new BackgroundTasks(this.#logger);
    this.#lifecycle = new Lifecycle({ logger: this.#logger, stopDeadlineMs });
    this.#stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve;
    });
  }

  /** Resolves when the cluster is ready: the API answers and the agent has joined. */
  static async start(input: Partial<ClusterConfig> & { readonly dataDir: string }): Promise<Cluster> {
    const cluster = new Cluster(parseClusterConfig(input));
    await ensureRequestId(() => cluster.#start());
    return cluster;
  }

  get credentials(): Credentials {
    if (!this.#credentials) throw new AppError('state-conflict', 'The cluster has not started.');
    return this.#credentials;
  }

  get agent(): Agent {
    if (!this.#parts) throw new AppError('state-conflict', 'The cluster has not started.');
    return this.#parts.agent;
  }

  /** Resolves when the cluster has stopped, for whatever reason. */
  get stopped(): Promise<void> {
    return this.#stopped;
  }

  stop(options: StopOptions): Promise<void> {
    this.#stopping ??= ensureRequestId(() => this.#stop(options));
    return this.#stopping;
  }

  async #start(): Promise<void> {
    const { directory } = this;
    let database!: DatabaseHandle;
    let manager!: Manager;
    let managerSocket!: AdminSocket;
    let agent!: Agent;
    let lock: DirectoryLock | undefined;
    const identity = await loadOrCreateIdentity(directory.keyFiles['manager.pem'], 'manager', 'manager');
    const inProcess = `manager:${directory.root}`;
    try {
      this.timings = await this.#lifecycle.start([
        {
          name: 'lock',
          start: async () => {
            lock = await lockDirectory(directory.root);
          },
          stop: () => lock?.release(),
        },
        {
          name: 'database',
          start: async () => {
            agent = await this.#createAgent(identity.publicKey, inProcess);
            // Meanwhile: it starts programs and waits for them. What goes wrong is told by its own start.
            agent.prepare().catch(() => {});
            database = await openPglite({ dataDir: directory.database, templateDir: defaultTemplateDirectory() });
            await migrate(database.withDeadlines(migrationDeadlines), { directory: managerMigrations });
          },
          stop: () => database?.close(),
        },
        {
          name: 'manager',
          start: async () => {
            const made = await this.#createManager(database, identity, inProcess);
            manager = made.manager;
            managerSocket = new AdminSocket(
              directory.managerSocket,
              { ...managerHandlers(manager), ...operatorHandlers(made.operator) },
              this.#logger,
            );
            const { accessKey, secretKey } = await manager.services.ensureInstallation();
            const { api } = await manager.start();
            if (api === undefined) throw new AppError('internal', 'The API does not listen.');
            this.#credentials = { endpoint: api, accessKey, secretKey };
          },
          stop: () => manager?.close(),
        },
        {
          name: 'agent',
          start: async () => {
            const { accessKey: installationOwner } = this.credentials;
            await agent.start({ joinToken: await this.#joinToken(manager), installationOwner });
            await agent.registered;
          },
          stop: () => agent?.close(),
        },
        asPart(
          'agent admin socket',
          new AdminSocket(
            directory.agentSocket,
            agentHandlers(() => agent),
            this.#logger,
          ),
        ),
        {
          name: 'manager admin socket',
          start: () => managerSocket.start(),
          stop: () => managerSocket?.stop(),
        },
        asPart('admin socket', this.#adminSocket()),
      ]);
    } catch (error) {
      this.#logFile.close();
      throw error;
    }
    this.#parts = { database, manager, agent };
    writePrivateJson(directory.credentialsFile, this.credentials);
    const record: ClusterRecord = { pid: process.pid, endpoint: this.credentials.endpoint, startedAt: this.startedAt };
    writePrivateJson(directory.clusterFile, record);
    this.#logger.info('cluster is ready', { endpoint: this.credentials.endpoint, timings: this.timings });
  }

  async #createManager(
    database: DatabaseHandle,
    identity: PeerIdentity,
    inProcess: string,
  ): Promise<{ manager: Manager; operator: Operator }> {
    const { directory, config } = this;
    const logger = createLogger({ component: 'manager', level: config.logLevel, destination: this.#logFile });
    const { db } = database;
    const { keyFiles } = directory;
    const liveValues = new InProcessLiveValues();
    const configStore = new EmbeddedConfigStore(db, logger);
    const manager = await createManager({
      config: { embedded: true, installationKeyFile: keyFiles['installation.key'] },
      database: db,
      steadyDatabase: db,
      eventBus: new InProcessEventBus({ logger, source: 'manager' }),
      leases: await EmbeddedLeases.open(db),
      liveValues,
      configStore,
      identity,
      rpc: { inProcessName: inProcess },
      http: { host: config.host, port: config.port },
      logger,
    });
    const { fixtures, installationKeys } = openInstallation({
      ...{ database: db, logger },
      installationKeyFile: keyFiles['installation.key'],
      adminEmail: defaultAdminEmail,
    });
    const operator = createOperator({
      database,
      configStore,
      liveValues,
      peers: manager.services.peers,
      fixtures,
      installationKeys,
      keyFiles,
      version: managerVersion,
      logger,
    });
    return { manager, operator };
  }

  async #createAgent(managerKey: string, inProcess: string): Promise<Agent> {
    const { directory, config } = this;
    return Agent.create({
      identity: await this.#agentIdentity(),
      managers: [`inproc:${inProcess}`],
      managerKeys: [managerKey],
      rpc: { inProcessName: `agent:${directory.root}` },
      dataPort: { host: config.host, port: 0 },
      dataDir: directory.agent,
      backend: config.backend,
      docker: { socket: config.engineSocket },
      accelerators: config.accelerators,
      slots: config.slots,
      allowUnisolated: config.allowUnisolated,
      path: config.path,
      logger: createLogger({ component: 'agent', level: config.logLevel, destination: this.#logFile }),
    });
  }

  #agentIdentity(): Promise<PeerIdentity> {
    const agentId = ensureAgentId(this.directory, hostname());
    return loadOrCreateIdentity(this.directory.keyFiles['agent.pem'], 'agent', agentId);
  }

  /** Undefined for an agent that has joined before. */
  async #joinToken(manager: Manager): Promise<string | undefined> {
    const { id, publicKey } = await this.#agentIdentity();
    const { peers } = manager.services;
    if ((await peers.publicKeyOf('agent', id)) === publicKey) return undefined;
    return (await peers.createToken({ kind: 'agent', resourceGroup: 'default' })).token;
  }

  #adminSocket(): AdminSocket {
    return new AdminSocket(
      this.directory.adminSocket,
      {
        status: () => ({
          pid: process.pid,
          endpoint: this.credentials.endpoint,
          startedAt: this.startedAt,
          dataDir: this.directory.root,
          residentBytes: process.memoryUsage.rss(),
        }),
        shutdown: ({ keepSessions }) => {
          this.#tasks.start('shutdown', () => this.stop({ keepSessions: keepSessions === true }));
        },
      },
      this.#logger,
    );
  }

  async #endSessions(): Promise<void> {
    if (!this.#parts) return;
    const { manager, agent } = this.#parts;
    const alive = await manager.services.endAllSessions('cluster-shutdown', endSessionsMs);
    if (alive > 0) this.#logger.warn('sessions did not end in time', { alive });
    await agent.endKernels('cluster-shutdown');
  }

  async #stop({ keepSessions }: StopOptions): Promise<void> {
    this.#logger.info('cluster stops', { keepSessions });
    try {
      if (!keepSessions) await this.#endSessions();
    } catch (error) {
      // The rest must stop all the same; kernels that are left are adopted or swept by the next start.
      this.#logger.error('sessions could not be ended', { error });
    }
    await this.#lifecycle.stop();
    rmSync(this.directory.clusterFile, { force: true });
    this.#logger.info('cluster has stopped');
    this.#logFile.close();
    this.#resolveStopped();
  }
}

function asPart(name: string, socket: AdminSocket): Part {
  return { name, start: () => socket.start(), stop: () => socket.stop() };
}
