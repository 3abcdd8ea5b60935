import { AppError } from '@backend.ai/core';
import { type ConfigDefinition, defineConfig, loggingSection } from '@backend.ai/runtime';
import { z } from 'zod';
import { type Component, componentCommands, main } from '../src/index.ts';

/** A component whose service does nothing but stop slowly when told so. */
const sections = {
  keeper: z
    .strictObject({
      deaf: z.boolean().default(false).describe('Never stops'),
      fails: z.enum(['never', 'foreseen', 'unforeseen']).default('never').describe('How it fails to start'),
    })
    .describe('It.'),
  logging: loggingSection('rpc'),
};
const configuration: ConfigDefinition<typeof sections> = defineConfig({
  component: 'keeper',
  command: 'keep',
  purpose: 'Keeps.',
  sections,
});

const component: Component<typeof sections> = {
  title: 'Keeper',
  version: '1.2.3',
  configuration,
  openDependencies: async () => ({ dependencies: [], close: async () => {} }),
  async start(config, { logger }) {
    const { fails } = config.values.keeper;
    const cause = new Error('connect ECONNREFUSED');
    if (fails === 'foreseen') throw new AppError('server-unreachable', 'Nobody keeps.', { hint: 'Wait.', cause });
    if (fails === 'unforeseen') throw cause;
    process.on('SIGUSR2', () => logger.info('asked'));
    process.on('SIGUSR1', () => void Promise.reject(new Error('nobody caught it')));
    return {
      addresses: { api: 'http://x' },
      stop: () => new Promise((resolve) => !config.values.keeper.deaf && resolve()),
    };
  },
  stopDeadlineMs: () => 60_000,
};

process.exitCode = await main(componentCommands(component), process.argv.slice(2));
