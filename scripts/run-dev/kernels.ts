import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent } from '@backend.ai/agent';
import { AppError } from '@backend.ai/core';
import { loadOrCreateIdentity } from '@backend.ai/rpc';
import { loadConfig, lockDirectory } from '@backend.ai/runtime';
import { silentLogger } from '@backend.ai/telemetry';
import { agentConfiguration, agentServerOptions } from '../../apps/agent/src/server-config.ts';
import { configFile } from './configs.ts';
import type { DevOptions } from './options.ts';

const deadlineMs = 60_000;

/**
 * Ends the kernels that an agent which has ended left running, as it is meant to: without its folder nobody would know
 * them any more. For that the agent starts once more, where nobody reaches it. Answers how many there were.
 * @throws AppError `state-conflict` when some outlive it, and what keeps the agent from starting
 */
export async function endKernels(options: DevOptions): Promise<number> {
  const folder = join(options.directory, 'agent');
  const dataDir = join(folder, 'data');
  const scratch = await readdir(join(dataDir, 'scratch')).catch(() => []);
  if (scratch.length === 0) return 0;
  const file = configFile(options, 'agent');
  const { values } = loadConfig(agentConfiguration, { file, env: process.env, cwd: process.cwd() });
  const { agent: config } = agentServerOptions(values, process.env.PATH ?? '');
  const identity = await loadOrCreateIdentity(join(folder, 'keys', 'agent.pem'), 'agent', config.agentId);
  const nowhere = { rpc: { inProcessName: 'reset' }, dataPort: { host: '127.0.0.1', port: 0 } };
  const lock = await lockDirectory(folder);
  const agent = Agent.create({ ...config, ...nowhere, dataDir, identity, logger: silentLogger });
  try {
    await agent.start();
    const kernels = agent.status().kernels.length;
    const left = await agent.endKernels('cluster-shutdown', deadlineMs);
    if (left.length === 0) return kernels;
    throw new AppError('state-conflict', `These kernels of the agent do not end: ${left.join(', ')}.`, {
      hint: 'Nothing was removed. Try again, or end their processes.',
    });
  } finally {
    await agent.close();
    await lock.release();
  }
}
