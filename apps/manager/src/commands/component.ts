import type { Component } from '@backend.ai/cli-kit';
import type { LoadedConfig } from '@backend.ai/runtime';
import { silentLogger } from '@backend.ai/telemetry';
import { managerVersion } from '../config.ts';
import { startManagerServer } from '../server.ts';
import { managerConfiguration, managerServerOptions } from '../server-config.ts';
import { dependenciesToOpen } from '../stores.ts';

export type ManagerShape = (typeof managerConfiguration)['sections'];
export type ManagerConfigFile = LoadedConfig<ManagerShape>;

export const managerComponent: Component<ManagerShape> = {
  title: 'Manager',
  version: managerVersion,
  configuration: managerConfiguration,
  async openDependencies({ values }) {
    return { dependencies: dependenciesToOpen(managerServerOptions(values), silentLogger), close: async () => {} };
  },
  start: ({ values }, { logger }) => startManagerServer(managerServerOptions(values), logger),
  stopDeadlineMs: ({ values }) => values.manager.stopDeadlineMs,
};
