import { type Database, leaderLease } from '@backend.ai/database';
import { createTenant, type Tenant } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { AgentRepository } from '../src/repositories/agents.ts';
import { simulated } from './fake-agent.ts';

/** What statements about sessions need in an empty database: an owner and a resource group. */
export async function prepareLedger(db: Database): Promise<Tenant> {
  const tenant = await createTenant(db);
  await db.execute(sql`insert into resource_groups (name) values ('default')`);
  return tenant;
}

/** Makes somebody the leader of this term. */
export async function elect(db: Pick<Database, 'execute'>, epoch: number): Promise<void> {
  await db.execute(sql`
    insert into leases (name, holder, epoch, expires_at) values (${leaderLease}, 'x', ${epoch}, now())
    on conflict (name) do update set epoch = excluded.epoch`);
}

/** An agent that is there with so much, or from now on has so much. */
export async function registerAgent(db: Database, agentId: string, slots: Record<string, string>): Promise<void> {
  await new AgentRepository(db).register(
    {
      agentId,
      bootId: 'b',
      rpcVersion: 3,
      version: '1',
      architecture: 'x86_64',
      resourceGroup: 'default',
      backend: 'fake',
      address: 'inproc:x',
      dataAddress: '127.0.0.1:1',
      slots,
      images: [],
      isolation: simulated,
    },
    'default',
  );
}
