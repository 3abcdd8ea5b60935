import type { Component } from '@backend.ai/cli-kit';
import { silentLogger } from '@backend.ai/telemetry';
import { managerVersion } from '../config.ts';
import { derivedManagerSettings, managerConfiguration, managerServerOptions } from '../server-config.ts';

export type ManagerShape = (typeof managerConfiguration)['sections'];

export const managerComponent: Component<ManagerShape> = {
  title: 'Manager',
  version: managerVersion,
  configuration: managerConfiguration,
  derived: ({ values }) => derivedManagerSettings(values),
  async openDependencies({ values }) {
    const { dependenciesToOpen } = await import('../stores.ts');
    return { dependencies: dependenciesToOpen(managerServerOptions(values), silentLogger), close: async () => {} };
  },
  async start({ values }, { logger }) {
    const { startManagerServer } = await import('../server.ts');
    return await startManagerServer(managerServerOptions(values), logger);
  },
  stopDeadlineMs: ({ values }) => values.manager.stopDeadlineMs,
};
