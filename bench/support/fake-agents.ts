/**
 * Agents with simulated kernels that cost no time, many in one process: `fake-agents.ts DATABASE_URL MANAGER_ADDRESS
 * COUNT FOLDER`, forked. Says `ready` when all have registered. The links, events and heartbeats are real.
 */
import { join } from 'node:path';
import { openPostgres } from '@backend.ai/database';
import { generateIdentity } from '@backend.ai/rpc';
import { ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { sql } from 'drizzle-orm';
import { Agent } from '../../apps/agent/src/index.ts';

const [databaseUrl = '', manager = '', count = '1', folder = ''] = process.argv.slice(2);

const identities = Array.from({ length: Number(count) }, (_, n) =>
  generateIdentity('agent', `fake-${String(n + 1).padStart(4, '0')}`),
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
    backend: 'fake',
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
