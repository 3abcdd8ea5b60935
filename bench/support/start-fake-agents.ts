import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { end, type Servers } from './servers.ts';

/** `count` simulated agents, registered, in one process beside the manager. */
export async function startFakeAgents(servers: Servers, count: number): Promise<void> {
  const { databaseUrl, manager, directory } = servers;
  const script = fileURLToPath(new URL('./fake-agents.ts', import.meta.url));
  const child = fork(script, [databaseUrl, manager.rpcAddress, String(count), join(directory, 'agents')]);
  servers.onStop(() => end(child));
  servers.processes.set('agents', child.pid ?? 0);
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`The simulated agents ended with ${code} before they had registered.`);
  });
  await Promise.race([once(child, 'message'), failed]);
}
