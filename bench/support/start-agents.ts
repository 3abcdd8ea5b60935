import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { end, type Servers } from './servers.ts';

/**
 * `count` agents, registered, in one process beside the manager.
 * @param engineSocket Of the container engine in which they run kernels. Absent: these are simulated.
 */
export async function startAgents(servers: Servers, count: number, engineSocket?: string): Promise<void> {
  const { databaseUrl, manager, directory } = servers;
  const script = fileURLToPath(new URL('./agents.ts', import.meta.url));
  const engine = engineSocket === undefined ? [] : [engineSocket];
  const child = fork(script, [databaseUrl, manager.rpcAddress, String(count), join(directory, 'agents'), ...engine]);
  servers.onStop(() => end(child));
  servers.processes.set('agents', child.pid ?? 0);
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`The agents ended with ${code} before they had registered.`);
  });
  await Promise.race([once(child, 'message'), failed]);
}
