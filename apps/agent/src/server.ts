import { dirname, join } from 'node:path';
import { loadOrCreateIdentity } from '@backend.ai/rpc';
import {
  AdminSocket,
  type DirectoryLock,
  InternalServer,
  Lifecycle,
  lockDirectory,
  type RunningService,
  type ServiceState,
} from '@backend.ai/runtime';
import { Metrics } from '@backend.ai/runtime/metrics';
import { ensureRequestId, type Logger } from '@backend.ai/telemetry';
import { Agent } from './agent.ts';
import type { AgentServerOptions } from './server-config.ts';
import { agentVersion, stopDeadlineMs } from './service-facts.ts';

/**
 * One agent as a process of its own. It is ready when it has its kernels back and listens; managers may come later.
 * Ending it does not end its kernels.
 * @throws AppError `data-directory-locked`, `port-in-use`, `config-invalid`, `isolation-unavailable`
 */
export async function startAgentServer(options: AgentServerOptions, logger: Logger): Promise<RunningService> {
  return await ensureRequestId(() => start(options, logger));
}

async function start(options: AgentServerOptions, logger: Logger): Promise<RunningService> {
  const { identityFile, runDir } = options;
  const lifecycle = new Lifecycle({ logger, stopDeadlineMs });
  const metrics = new Metrics('agent');
  let state: ServiceState = 'starting';
  let lock: DirectoryLock | undefined;
  let agent: Agent | undefined;
  let door: AdminSocket | undefined;
  let internal: InternalServer | undefined;
  let health = '';
  await lifecycle.start([
    { name: 'metrics', stop: () => metrics.close() },
    {
      name: 'data folder',
      async start() {
        lock = await lockDirectory(dirname(runDir));
      },
      stop: () => lock?.release(),
    },
    {
      name: 'agent',
      async start() {
        const identity = await loadOrCreateIdentity(identityFile, 'agent', options.agent.agentId);
        agent = Agent.create({ ...options.agent, identity, logger });
        await agent.start();
      },
      stop: () => agent?.close(),
    },
    {
      name: 'admin socket',
      async start() {
        door = new AdminSocket(join(runDir, 'agent.sock'), { status: () => agent?.status() }, logger);
        await door.start();
      },
      stop: () => door?.stop(),
    },
    {
      name: 'internal port',
      async start() {
        internal = new InternalServer({
          ...options.metrics,
          component: 'agent',
          version: agentVersion,
          state: () => state,
          dependencies: [{ name: 'Manager', check: async () => registrationOf(agent as Agent) }],
          metrics,
          logger,
        });
        health = `${(await internal.start()).url}/health`;
      },
      stop: () => internal?.stop(),
    },
  ]);
  const running = agent as unknown as Agent;
  metrics.addGauge({
    name: 'backend_agent_kernels',
    help: 'Kernels on this agent by state',
    label: 'state',
    collect: () => countBy(running.status().kernels.map((kernel) => kernel.state)),
  });
  metrics.addGauge({
    name: 'backend_agent_unreported_events',
    help: 'Events that no manager has acknowledged yet',
    collect: () => running.status().outboxDepth,
  });
  state = 'ready';
  const { address, dataAddress } = running.status();
  return {
    addresses: { RPC: address, Data: dataAddress, Health: health },
    async stop() {
      state = 'stopping';
      await lifecycle.stop();
    },
  };
}

/** @throws what keeps it from a manager */
function registrationOf(agent: Agent): string {
  const { state, manager, lastError } = agent.status().link;
  if (state === 'registered') return manager ?? '';
  throw new Error(lastError ?? 'not connected yet');
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
