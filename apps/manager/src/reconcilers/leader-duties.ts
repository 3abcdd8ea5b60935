import type { Clock } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { AgentClients } from '../clients/agent-clients.ts';
import type { ManagerConfig } from '../config.ts';
import type { AgentRepository } from '../repositories/agents.ts';
import type { ClusterKeyRepository } from '../repositories/cluster-keys.ts';
import type { ClusterNetworkRepository } from '../repositories/cluster-networks.ts';
import type { KernelRepository } from '../repositories/kernels.ts';
import type { QuotaRepository } from '../repositories/quotas.ts';
import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { SessionRepository } from '../repositories/sessions.ts';
import type { WarmPoolRepository } from '../repositories/warm-pools.ts';
import type { Duty } from '../scheduling/leader.ts';
import type { SchedulingMemory } from '../scheduling/scheduling-memory.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import type { IdleService } from '../services/idle/idle-service.ts';
import type { ImageCatalog } from '../services/images/image-catalog.ts';
import { ImageSources } from '../services/images/image-sources.ts';
import type { SecretBox } from '../services/installation-keys/secret-box.ts';
import { ClusterKeys } from '../services/sessions/cluster-keys.ts';
import { ClusterNetworks } from '../services/sessions/cluster-networks.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';
import { AdvanceSessions } from './advance-sessions.ts';
import { EndDependents } from './end-dependents.ts';
import { EndIdleSessions } from './end-idle-sessions.ts';
import { FillWarmPools } from './fill-warm-pools.ts';
import { ForgetClusterKeys } from './forget-cluster-keys.ts';
import { RemoveClusterNetworks } from './remove-cluster-networks.ts';
import { ScheduleSessions } from './schedule-sessions.ts';
import { StartSessions } from './start-sessions.ts';
import { SweepDeadlines } from './sweep-deadlines.ts';
import { TerminateSessions } from './terminate-sessions.ts';
import { WatchAgents } from './watch-agents.ts';

export interface LeaderParts {
  readonly config: ManagerConfig;
  readonly memory: SchedulingMemory;
  readonly transitions: SessionTransitions;
  readonly sessions: SessionRepository;
  readonly kernels: KernelRepository;
  readonly agents: AgentRepository;
  readonly quotas: QuotaRepository;
  readonly clusterKeys: ClusterKeyRepository;
  readonly clusterNetworks: ClusterNetworkRepository;
  readonly warmPools: WarmPoolRepository;
  readonly catalog: ImageCatalog;
  readonly box: SecretBox;
  readonly directory: AgentDirectory;
  readonly idle: IdleService;
  readonly changes: SessionChanges;
  readonly clients: AgentClients;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
  readonly logger: Logger;
}

export type DutyName =
  | 'schedule'
  | 'start'
  | 'terminate'
  | 'advance'
  | 'sweep'
  | 'dependents'
  | 'keys'
  | 'networks'
  | 'agents'
  | 'idle'
  | 'pools';

/** What only the leader does, for one term; `again` makes a duty run once more. */
export function leaderDuties(parts: LeaderParts, again: (name: DutyName) => void): Record<DutyName, Duty> {
  const { config, transitions, sessions, changes, directory, clusterKeys, clock, logger } = parts;
  const imageSources = new ImageSources(parts.box, config.imagePullPolicy);
  const clusterNetworks = new ClusterNetworks({ ...parts, networks: parts.clusterNetworks });
  const start = new StartSessions({
    ...parts,
    ...config,
    clusterKeys: new ClusterKeys(clusterKeys, parts.box),
    clusterNetworks,
    imageSources,
    again: () => again('start'),
    refusalBackoff: { initialMs: config.refusalBackoffMs, maxMs: config.refusalBackoffMaxMs },
  });
  const pools = new FillWarmPools({
    ...parts,
    pools: parts.warmPools,
    imageSources,
    orderDeadlineMs: config.orderDeadlineMs,
    again: () => again('pools'),
  });
  const schedule = new ScheduleSessions({
    ...parts,
    begin: (kernels, epoch) => start.begin(kernels, epoch),
    again: () => again('schedule'),
    refill: () => pools.refill(),
  });
  const terminate = new TerminateSessions({
    ...parts,
    ...config,
    again: () => again('terminate'),
    startSettled: (kernelId) => start.settled(kernelId),
  });
  const watch = new WatchAgents({
    ...{ agents: parts.agents, directory, transitions, changes, clock, logger },
    lostAfterMs: config.agentLostAfterMs,
    graceMs: config.agentLostGraceMs,
  });
  return {
    schedule: duty('schedule-sessions', schedule),
    start: duty('start-sessions', start),
    terminate: duty('terminate-sessions', terminate),
    advance: duty('advance-sessions', new AdvanceSessions(transitions, changes)),
    sweep: duty('sweep-deadlines', new SweepDeadlines(transitions, changes, config.deadlinesMs)),
    dependents: duty('end-dependents', new EndDependents(sessions, transitions, changes)),
    keys: duty('forget-cluster-keys', new ForgetClusterKeys(clusterKeys)),
    networks: duty('remove-cluster-networks', new RemoveClusterNetworks(parts.clusterNetworks, clusterNetworks)),
    agents: duty('watch-agents', watch),
    pools: duty('fill-warm-pools', pools),
    idle: duty('end-idle-sessions', new EndIdleSessions({ ...parts, everyMs: config.judgeIdleEveryMs })),
  };
}

function duty(name: string, work: { run(epoch: number, signal: AbortSignal): Promise<void>; stop?(): void }): Duty {
  return { name, run: (epoch, signal) => work.run(epoch, signal), stop: () => work.stop?.() };
}
