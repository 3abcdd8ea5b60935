import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Database } from '@backend.ai/database';
import { end, type ServerProcess, type Servers, startServers } from './servers.ts';

export interface ApiServers {
  readonly manager: ServerProcess;
  readonly peer: ServerProcess;
  /** Owner of `sessions` running sessions, `s-1` and so on. */
  readonly credentials: Servers['credentials'];
  stop(): Promise<void>;
}

/** A manager and the peer, each a process of its own, on one PostgreSQL. */
export async function startApiServers(sessions: number): Promise<ApiServers> {
  const servers = await startServers((db, { accessKey }) => fillSessions(db, accessKey, sessions));
  try {
    const { databaseUrl, credentials, manager } = servers;
    const peer = fork(fileURLToPath(new URL('./bare-api.ts', import.meta.url)), [databaseUrl, credentials.accessKey]);
    servers.onStop(() => end(peer));
    const [port] = (await once(peer, 'message')) as [number];
    return { manager, peer: { pid: peer.pid ?? 0, port }, credentials, stop: servers.stop };
  } catch (error) {
    await servers.stop();
    throw error;
  }
}

async function fillSessions(db: Database, accessKey: string, sessions: number): Promise<void> {
  const id = (kind: number): string => `('00000000-0000-7000-800${kind}-' || lpad(to_hex(n), 12, '0'))::uuid`;
  const rows = `generate_series(1, ${sessions}) as n`;
  await db.execute(`
    insert into sessions (id, name, domain_name, project_id, user_id, access_key, image, architecture,
      resource_group, status, status_reason, requested_slots, scheduled_at, started_at, request_id)
    select ${id(1)}, 's-' || n, 'default', p.id, k.user_id, k.access_key, 'local/python:3.11', 'x86_64', 'default',
      'RUNNING', 'runner-answered', '{"cpu": "1", "mem": "536870912"}', now(), now(), 'bench'
    from ${rows}, keypairs k, projects p where k.access_key = '${accessKey}' and p.name = 'default'`);
  await db.execute(`
    insert into kernels (id, session_id, agent_id, image, status, status_reason, status_data, requested_slots,
      request_id)
    select ${id(2)}, ${id(1)}, 'i-1', 'local/python:3.11', 'RUNNING', 'runner-answered',
      '{"steps": [{"name": "prepare-folders", "ms": 3}, {"name": "start-runner", "ms": 40}]}', '{"cpu": "1"}', 'bench'
    from ${rows}`);
}
