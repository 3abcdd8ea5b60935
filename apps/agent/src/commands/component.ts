import type { Component } from '@backend.ai/cli-kit';
import { agentConfiguration, agentServerOptions, derivedAgentSettings } from '../server-config.ts';
import { agentVersion, stopDeadlineMs } from '../service-facts.ts';

export type AgentShape = (typeof agentConfiguration)['sections'];

export const agentComponent: Component<AgentShape> = {
  title: 'Agent',
  version: agentVersion,
  configuration: agentConfiguration,
  derived: ({ values }) => derivedAgentSettings(values),
  async openDependencies({ values }, { env }) {
    const { dependenciesOf } = await import('../health.ts');
    return { dependencies: dependenciesOf(agentServerOptions(values, env.PATH ?? '')), close: async () => {} };
  },
  async start({ values }, { logger, env }) {
    const { startAgentServer } = await import('../server.ts');
    return await startAgentServer(agentServerOptions(values, env.PATH ?? ''), logger);
  },
  stopDeadlineMs: () => stopDeadlineMs,
};
