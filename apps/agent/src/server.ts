import { AppError } from '@backend.ai/core';
import { loadOrCreateIdentity } from '@backend.ai/rpc';
import { DependencyChecks, type RunningService } from '@backend.ai/runtime';
import { startComponentServer } from '@backend.ai/runtime/server';
import type { Logger } from '@backend.ai/telemetry';
import { agentHandlers } from './admin-handlers.ts';
import { Agent } from './agent.ts';
import type { AgentServerOptions } from './server-config.ts';
import { agentVersion, stopDeadlineMs } from './service-facts.ts';
import { agentSeries } from './statistics/metric-series.ts';

/**
 * One agent as a process of its own. It is ready when it has its kernels back and listens; managers may come later.
 * Ending it does not end its kernels.
 * @throws AppError `data-directory-locked`, `port-in-use`, `config-invalid`, `isolation-unavailable`
 */
export function startAgentServer(options: AgentServerOptions, logger: Logger): Promise<RunningService> {
  const { runDir, metrics } = options;
  let agent!: Agent;
  return startComponentServer(
    { component: 'agent', version: agentVersion, runDir, metrics, stopDeadlineMs, logger },
    [
      {
        name: 'agent',
        async start() {
          const identity = await loadOrCreateIdentity(options.identityFile, 'agent', options.agent.agentId);
          agent = Agent.create({ ...options.agent, identity, logger });
          await agent.start();
        },
        stop: () => agent?.close(),
      },
    ],
    () => {
      const { address, dataAddress } = agent.status();
      return {
        addresses: { RPC: address, Data: dataAddress },
        handlers: agentHandlers(() => agent),
        dependencies: new DependencyChecks([
          { name: 'Manager', check: async () => registrationOf(agent) },
          ...(agent.status().backend === 'docker'
            ? [{ name: 'Container engine', check: async () => engineOf(agent) }]
            : []),
        ]),
        gauges: [
          {
            name: 'backend_agent_kernels',
            help: 'Kernels on this agent by state',
            label: 'state',
            collect: () => countBy(agent.status().kernels.map((kernel) => kernel.state)),
          },
          {
            name: 'backend_agent_unreported_events',
            help: 'Events that no manager has acknowledged yet',
            collect: () => agent.status().outboxDepth,
          },
        ],
        series: agentSeries(() => agent.status()),
      };
    },
  );
}

/** @throws what keeps it from a manager */
function registrationOf(agent: Agent): string {
  const { state, manager, lastError } = agent.status().link;
  if (state === 'registered') return manager ?? '';
  throw new Error(lastError ?? 'not connected yet');
}

/** @throws what keeps kernels from being started */
function engineOf(agent: Agent): string {
  const { outage } = agent.status();
  if (outage === null) return 'answers';
  throw new AppError('engine-unavailable', outage);
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
