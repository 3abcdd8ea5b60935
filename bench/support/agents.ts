/**
 * Agents in one process: `agents.ts DATABASE_URL MANAGER_ADDRESS COUNT FOLDER [ENGINE_SOCKET]`, forked. Without an engine
 * their kernels are simulated and cost no time. Says `ready` when all have registered. The links, events and heartbeats
 * are real.
 */
import { join } from 'node:path';
import { openPostgres } from '@backend.ai/database';
import { generateIdentity } from '@backend.ai/rpc';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { sql } from 'drizzle-orm';
import { Agent } from '../../apps/agent/src/index.ts';

const [databaseUrl = '', manager = '', count = '1', folder = '', engineSocket] = process.argv.slice(2);

const identities = Array.from({ length: Number(count) }, (_, n) =>
  generateIdentity('agent', `bench-${String(n + 1).padStart(4, '0')}`),
);
const managerKeys = await introduce();
const agents = identities.map((identity) =>
  Agent.create({
    identity,
    logger: silentLogger,
    dataDir: join(folder, identity.id),
    managers: [manager],
    managerKeys,
    rpc: { host: '127.0.0.1', port: 0 },
    dataPort: { port: 0 },
    ...(engineSocket === undefined ? { backend: 'fake' } : { backend: 'docker', docker: { socket: engineSocket } }),
    slots: { cpu: '64', mem: String(256 * 2 ** 30) },
  }),
);
for (const agent of agents) await agent.start();
await Promise.all(agents.map((agent) => agent.registered));
process.on('SIGTERM', async () => {
  await Promise.all(agents.map((agent) => agent.close()));
  process.exit(0);
});
process.send?.('ready');

/** Registers their keys without the join tokens that people would hand out one by one. */
async function introduce(): Promise<string[]> {
  const { db, close } = await openPostgres({ url: databaseUrl, maxConnections: 1 });
  try {
    return await ensureRequestId(async () => {
      for (const { id, publicKey } of identities) {
        await db.execute(sql`
          insert into peers (id, kind, name, public_key, request_id) values (${id}, 'agent', ${id}, ${publicKey}, 'bench')`);
      }
      const rows = await db.execute<{ key: string }>(sql`select public_key as key from peers where kind = 'manager'`);
      return rows.map((row) => row.key);
    });
  } finally {
    await close();
  }
}
