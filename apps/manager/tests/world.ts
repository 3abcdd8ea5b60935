import type { CallContext, CreateSessionInput, SessionView, UserActor } from '@backend.ai/contract';
import { createSessionSchema } from '@backend.ai/contract';
import {
  type ConfigStore,
  EmbeddedConfigStore,
  EmbeddedLeases,
  type EventBus,
  InProcessEventBus,
  InProcessLiveValues,
  type Leases,
  type LiveValues,
} from '@backend.ai/coordination';
import { newId, type RequestId } from '@backend.ai/core';
import type { DatabaseHandle } from '@backend.ai/database';
import { generateIdentity, type PeerIdentity } from '@backend.ai/rpc';
import { type Logger, runWithRequest, silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, testDatabase, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { createManager, type Manager, type ManagerOptions } from '../src/index.ts';
import type { CrashPoints } from './crash-points.ts';
import { FakeAgent, type FakeAgentOptions } from './fake-agent.ts';
import type { Stores, TestCoordination } from './test-coordination.ts';

export interface World {
  readonly database: DatabaseHandle;
  readonly manager: Manager;
  readonly identity: PeerIdentity;
  readonly admin: UserActor;
  readonly adminSecret: string;
  readonly installationKeyFile: string;
  /** Of the manager that runs now. */
  liveValues(): LiveValues;
  readonly configStore: ConfigStore;
  /** The stores of the manager that runs now, but the database, are gone for it. */
  loseStores(): Promise<void>;
  /** Ends the manager and starts another one on the same database. */
  restartManager(): Promise<void>;
  /**
   * Another manager beside it, with the same key and a bus of its own: neither hears of what the other does, unless they
   * share `coordination`. The lease of the first one is over for it when it takes over. On a machine of its own it has
   * another name and key file.
   */
  addManager(options?: {
    readonly takesOver?: boolean;
    readonly machine?: { readonly id: string; readonly installationKeyFile: string };
  }): Promise<{ readonly manager: Manager; readonly address: string }>;
  /** As if nobody had renewed any for long: whoever asks first leads. */
  endLeases(): Promise<void>;
  addAgent(id: string, options?: Partial<FakeAgentOptions>): Promise<FakeAgent>;
  create(input?: Partial<CreateSessionInput>, requestId?: string): Promise<SessionView>;
  until(session: string, status: SessionView['status']): Promise<SessionView>;
  ctx(requestId?: string): CallContext;
  /** As if it had been silent for long. */
  forgetHeartbeats(agentId: string): Promise<void>;
  /** As if it had been lost for long. */
  expireGrace(agentId: string): Promise<void>;
  /** As if the session were in its state for long. */
  expireDeadline(session: string): Promise<void>;
  close(): Promise<void>;
}

export interface WorldOptions {
  readonly config?: Partial<ManagerOptions['config']>;
  readonly logger?: Logger;
  readonly http?: ManagerOptions['http'];
  /** Of the first manager, made from the real ones. */
  readonly leases?: (real: Leases) => Leases;
  /** Makes the bus of each manager. */
  readonly eventBus?: () => EventBus;
  /** Makes the live values of each manager. */
  readonly liveValues?: () => LiveValues;
  /** Of all its managers, and closed with them; otherwise each has a bus and live values of its own, in process. */
  readonly coordination?: TestCoordination | undefined;
  /** Where the manager may be killed; `restartManager` buries it. */
  readonly crashPoints?: CrashPoints;
}

interface Booted {
  readonly manager: Manager;
  readonly stores: Stores;
  readonly shut: () => Promise<void>;
}

let count = 0;

/** A whole manager with real stores; agents are simulated. */
export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const logger = options.logger ?? silentLogger;
  const [database, directory] = await Promise.all([testDatabase(), makeTempDirectory()]);
  const identity = generateIdentity('manager', 'manager');
  count += 1;
  const inProcessName = `manager-${count}`;
  const agents = new Set<FakeAgent>();
  const installationKeyFile = `${directory.path}/installation.key`;

  const embeddedConfig = new EmbeddedConfigStore(database.db, logger);

  const { coordination } = options;

  /** @param shared Absent: nobody has a lease any more. */
  async function openStores(shared?: Leases): Promise<Stores> {
    if (coordination) {
      if (!shared) await coordination.endLeases();
      return await coordination.open(database);
    }
    const eventBus = options.eventBus?.() ?? new InProcessEventBus({ source: 'manager', logger });
    const liveValues = options.liveValues?.() ?? new InProcessLiveValues();
    const leases = shared ?? (await EmbeddedLeases.open(database.db));
    const close = async (): Promise<void> => {
      await eventBus.close();
      await liveValues.close();
    };
    return { eventBus, liveValues, configStore: embeddedConfig, leases, close };
  }

  async function boot(stores: Stores, name = inProcessName, own = { identity, installationKeyFile }): Promise<Booted> {
    options.crashPoints?.newLife();
    const { eventBus, liveValues, configStore, leases } = stores;
    const manager = await createManager({
      config: {
        installationKeyFile: own.installationKeyFile,
        embedded: true,
        tickMs: 200,
        askAgainMs: 100,
        heartbeatMs: 250,
        agentLostAfterMs: 4_000,
        agentLostGraceMs: 600_000,
        judgeIdleEveryMs: 50,
        orderDeadlineMs: 500,
        refusalBackoffMs: 20,
        refusalBackoffMaxMs: 100,
        ...options.config,
      },
      database: options.crashPoints?.database(database.db) ?? database.db,
      steadyDatabase: options.crashPoints?.database(database.steady) ?? database.steady,
      eventBus,
      leases,
      liveValues,
      configStore,
      identity: own.identity,
      rpc: { inProcessName: name },
      ...(options.http ? { http: options.http } : {}),
      logger,
    });
    await runWithRequest({ requestId: newId() }, async () => {
      await manager.services.ensureInstallation();
      await manager.start();
    });
    const shut = async (): Promise<void> => {
      await manager.close();
      await stores.close();
    };
    return { manager, stores, shut };
  }

  const first = await openStores();
  let running = await boot({ ...first, leases: options.leases?.(first.leases) ?? first.leases });
  const others: Booted[] = [];
  const credentials = await running.manager.services.ensureInstallation();
  const admin = (await running.manager.services.keypairs.find(credentials.accessKey))!.actor;
  const ctx = (requestId: string = newId()): CallContext => ({
    requestId: requestId as RequestId,
    actor: admin,
    headers: {},
    signal: undefined,
  });

  return {
    database,
    identity,
    admin,
    adminSecret: credentials.secretKey,
    installationKeyFile,
    liveValues: () => running.stores.liveValues,
    get configStore() {
      return running.stores.configStore;
    },
    get manager() {
      return running.manager;
    },
    loseStores: () => running.stores.close(),
    async restartManager() {
      await running.shut();
      running = await boot(await openStores());
    },
    async addManager(other) {
      const name = `${inProcessName}-${others.length + 2}`;
      const { takesOver = false, machine } = other ?? {};
      const own = machine && { ...machine, identity: generateIdentity('manager', machine.id) };
      const booted = await boot(await openStores(takesOver ? undefined : running.stores.leases), name, own);
      others.push(booted);
      return { manager: booted.manager, address: `inproc:${name}` };
    },
    async endLeases() {
      if (coordination) await coordination.endLeases();
      else await EmbeddedLeases.open(database.db);
    },
    async addAgent(id, overrides = {}) {
      const { token } = await running.manager.services.peers.createToken({ kind: 'agent' });
      const agent = new FakeAgent({
        id,
        managerAddress: `inproc:${inProcessName}`,
        managerKey: identity.publicKey,
        token,
        logger,
        ...(options.crashPoints ? { link: (service) => options.crashPoints!.agent(service) } : {}),
        ...overrides,
      });
      agents.add(agent);
      await agent.start();
      return agent;
    },
    async create(input = {}, requestId = newId()) {
      const context = ctx(requestId);
      return await runWithRequest({ requestId: context.requestId }, async () => {
        const parsed = createSessionSchema.parse({ image: 'python', ...input });
        return (await running.manager.services.api.session.create(parsed, context)).session;
      });
    },
    async until(session, status) {
      return await waitFor(
        async () => {
          const view = await running.manager.services.api.session.get({ session }, ctx());
          return view.status === status && view;
        },
        { what: `${session} is ${status}` },
      );
    },
    ctx,
    async forgetHeartbeats(agentId) {
      await database.db.execute(
        sql`update agents set last_heartbeat = now() - interval '1 hour' where id = ${agentId}`,
      );
    },
    async expireGrace(agentId) {
      await database.db.execute(sql`update agents set lost_at = now() - interval '1 hour' where id = ${agentId}`);
    },
    async expireDeadline(session) {
      await database.db.execute(
        sql`update sessions set status_changed_at = now() - interval '2 hours' where id = ${session}::uuid`,
      );
    },
    async close() {
      await Promise.all([...agents].map((agent) => agent.stop()));
      await Promise.all([running, ...others].map(({ shut }) => shut()));
      await coordination?.close();
      await database.close();
      await directory.remove();
    },
  };
}
