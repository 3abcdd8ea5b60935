import { createAgentGatewayRouter } from '@backend.ai/contract';
import type { Database } from '@backend.ai/database';
import { createRpcServer, type PeerIdentity, type RpcServer } from '@backend.ai/rpc';
import { type BackgroundTasks, currentRequestId, ReconcileLoop } from '@backend.ai/telemetry';
import type { ManagerConfig } from './config.ts';
import type { BusinessLog } from './events.ts';
import type { DutyName } from './reconcilers/leader-duties.ts';
import { KernelRepository } from './repositories/kernels.ts';
import type { SessionTransitions } from './repositories/session-transitions.ts';
import type { Leader } from './scheduling/leader.ts';
import { type AgentGatewayOptions, AgentGatewayService } from './services/agents/agent-gateway-service.ts';
import { KernelFacts } from './services/agents/kernel-facts.ts';
import { BatchJobs } from './services/sessions/batch-jobs.ts';

export interface GatewayOptions
  extends Omit<AgentGatewayOptions, 'facts' | 'batchJobs' | 'heartbeatMs' | 'missingGraceMs'> {
  readonly config: ManagerConfig;
  readonly db: Database;
  readonly identity: PeerIdentity;
  readonly transitions: SessionTransitions;
  readonly leader: Leader<DutyName>;
  readonly log: BusinessLog;
  readonly tasks: BackgroundTasks;
}

/** What agents reach, and who may be connected. */
export interface Gateway {
  readonly agentGateway: AgentGatewayService;
  readonly rpcServer: RpcServer;
  readonly syncPeers: ReconcileLoop;
  /** Whether this manager may order nothing any more. It may come back with another key, at its next start. */
  isRevoked(): boolean;
}

export function createGateway(options: GatewayOptions): Gateway {
  const { config, db, identity, directory, clients, peers, transitions, leader, log, tasks, logger, clock } = options;
  const agentGateway = new AgentGatewayService({
    ...options,
    facts: new KernelFacts(transitions),
    batchJobs: new BatchJobs({
      ...{ kernels: new KernelRepository(db), clients, tasks, logger },
      orderDeadlineMs: config.orderDeadlineMs,
    }),
    heartbeatMs: config.heartbeatMs,
    missingGraceMs: config.agentLostGraceMs,
  });
  const rpcServer = createRpcServer({
    router: createAgentGatewayRouter(agentGateway),
    identity,
    directory: peers.directory,
    allow: ['agent'],
    logger: logger.with({ module: 'rpc' }),
    clock,
  });
  let revoked = false;
  // At every manager: a peer may have been revoked, and an agent may have registered, through another one.
  const syncPeers = new ReconcileLoop({
    name: 'sync-peers',
    tickMs: config.tickMs,
    clock,
    logger,
    run: async () => {
      const isKnown = await peers.knownNow();
      if (!revoked && !isKnown(identity)) {
        revoked = true;
        log.managerRevoked(identity.id);
        await leader.stop();
      }
      rpcServer.cutPeers(isKnown);
      clients.cutPeers(isKnown);
      clients.refreshMoved((await directory.reload()).byId);
    },
  });
  peers.onRevoked(() => syncPeers.hint(currentRequestId()));
  return { agentGateway, rpcServer, syncPeers, isRevoked: () => revoked };
}
