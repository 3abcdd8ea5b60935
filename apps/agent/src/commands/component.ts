import type { Component } from '@backend.ai/cli-kit';
import { agentVersion } from '../agent.ts';
import { dependenciesOf } from '../health.ts';
import { startAgentServer, stopDeadlineMs } from '../server.ts';
import { agentConfiguration, agentServerOptions } from '../server-config.ts';

export type AgentShape = (typeof agentConfiguration)['sections'];

export const agentComponent: Component<AgentShape> = {
  title: 'Agent',
  version: agentVersion,
  configuration: agentConfiguration,
  async openDependencies({ values }, { env }) {
    return { dependencies: dependenciesOf(agentServerOptions(values, env.PATH ?? '')), close: async () => {} };
  },
  start: ({ values }, { logger, env }) => startAgentServer(agentServerOptions(values, env.PATH ?? ''), logger),
  stopDeadlineMs: () => stopDeadlineMs,
};
