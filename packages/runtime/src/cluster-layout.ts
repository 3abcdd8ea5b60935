import { join } from 'node:path';
import { adminSocketPath } from './admin-socket.ts';

/** Where things lie in the data directory of an embedded cluster that others than the cluster itself look for. */
export interface ClusterLayout {
  readonly root: string;
  /** Of PGlite. */
  readonly database: string;
  /** Without these the rest cannot be used or would not be trusted; by name. */
  readonly keyFiles: Readonly<Record<'installation.key' | 'manager.pem' | 'agent.pem' | 'agent-id.json', string>>;
  readonly managerSocket: string;
  readonly agentSocket: string;
}

export function clusterLayout(root: string): ClusterLayout {
  const key = (name: string): string => join(root, 'keys', name);
  return {
    root,
    database: join(root, 'database'),
    keyFiles: {
      'installation.key': key('installation.key'),
      'manager.pem': key('manager.pem'),
      'agent.pem': key('agent.pem'),
      'agent-id.json': key('agent-id.json'),
    },
    managerSocket: adminSocketPath(join(root, 'run'), 'manager'),
    agentSocket: adminSocketPath(join(root, 'run'), 'agent'),
  };
}
