import type { Database, DatabaseHandle } from '@backend.ai/database';
import { createKeypair, createTenant, type Tenant, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgentRepository } from '../src/repositories/agents.ts';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { type QuotaKind, QuotaRepository } from '../src/repositories/quotas.ts';
import { SessionTransitions } from '../src/repositories/session-transitions.ts';
import { SessionRepository } from '../src/repositories/sessions.ts';
import { simulated } from './fake-agent.ts';
import { newSession } from './new-session.ts';

/** Limits hold in the statements that could exceed them. */

let handle: DatabaseHandle;
let db: Database;
let tenant: Tenant;
const epoch = 3;
const agents = Array.from({ length: 12 }, (_, at) => `i-${at}`);

beforeAll(async () => {
  handle = await testDatabase();
  db = handle.db;
  await db.execute(sql`insert into resource_groups (name) values ('default')`);
  await db.execute(
    sql`insert into leases (name, holder, epoch, expires_at) values ('manager-leader', 'x', ${epoch}, now())`,
  );
  // Several of them, so that placements that meet have nothing in common but their limits.
  for (const agentId of agents)
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
        slots: { cpu: '10', mem: '10000' },
        images: [],
        isolation: simulated,
      },
      'default',
    );
});
afterAll(() => handle.close());
beforeEach(async () => {
  await db.execute(sql`delete from sessions`);
  await db.execute(sql`update agent_resources set used = 0`);
  tenant = await createTenant(db);
});

type NewSession = Parameters<SessionRepository['insert']>[0];

async function insert(over: Partial<NewSession> = {}, of: Tenant = tenant) {
  const session = { ...newSession(of), ...over };
  expect((await new SessionRepository(db).insert(session)).kind).toBe('created');
  return { sessionId: session.id, kernelId: session.kernelId };
}

const place = async ({ sessionId, kernelId }: { sessionId: string; kernelId: string }, at = 0) => {
  const placed = { sessionId, kernels: [{ kernelId, agentId: agents[at]! }], epoch };
  return (await new SessionTransitions(db).place(placed)).length > 0;
};
const placeTogether = (sessions: ReadonlyArray<{ sessionId: string; kernelId: string; at: number }>) =>
  new SessionTransitions(db).placeAll(
    sessions.map(({ sessionId, kernelId, at }) => ({ sessionId, kernels: [{ kernelId, agentId: agents[at]! }] })),
    epoch,
  );
const end = (sessionId: string) =>
  new SessionTransitions(db).apply({ target: { sessionId }, to: 'ERROR', reason: 'agent-lost' });

/** Of the present tenant. Its key pair gets a policy of its own. */
async function limit(kind: QuotaKind, slots: Record<string, string>, fields: Record<string, unknown> = {}) {
  const { keypair, user, project, domain } = tenant;
  const texts = JSON.stringify(slots);
  if (kind === 'domain') {
    await db.execute(sql`update domains set total_resource_slots = ${texts}::jsonb where name = ${domain.name}`);
  } else if (kind === 'project') {
    await db.execute(sql`update projects set total_resource_slots = ${texts}::jsonb where id = ${project.id}::uuid`);
  } else if (kind === 'user') {
    await db.execute(sql`
      insert into user_resource_policies (name, total_resource_slots) values (${user.id}, ${texts}::jsonb)`);
    await db.execute(sql`update users set resource_policy = ${user.id} where id = ${user.id}::uuid`);
  } else {
    const name = keypair.accessKey;
    await db.execute(sql`
      insert into keypair_resource_policies (name, total_resource_slots) values (${name}, ${texts}::jsonb)`);
    for (const [column, value] of Object.entries(fields)) {
      await db.execute(sql`
        update keypair_resource_policies set ${sql.identifier(column)} = ${value} where name = ${name}`);
    }
    await db.execute(sql`update keypairs set resource_policy = ${name} where access_key = ${name}`);
  }
}

describe('a placement', () => {
  it.each<QuotaKind>(['keypair', 'user', 'project', 'domain'])(
    'within the limits of the %s is made, beyond them not until something ended',
    async (kind) => {
      await limit(kind, { cpu: '2' });
      const [one, two, three] = [await insert(), await insert(), await insert()];
      expect([await place(one), await place(two), await place(three)]).toEqual([true, true, false]);
      const quotas = await new QuotaRepository(db).limited();
      expect(quotas).toMatchObject([{ kind, limits: { cpu: '2' }, used: { cpu: '2' }, sessions: 2 }]);
      await end(one.sessionId);
      expect(await place(three)).toBe(true);
      expect(await verifyLedger(db)).toEqual([]);
    },
  );

  it.each<QuotaKind>(['keypair', 'user', 'project', 'domain'])(
    'that meets others never exceeds the limits of the %s together with them',
    async (kind) => {
      await limit(kind, { cpu: '3' });
      const all = await Promise.all(Array.from({ length: 12 }, () => insert()));
      const placed = await Promise.all(all.map((session, at) => place(session, at)));
      expect(placed.filter(Boolean)).toHaveLength(3);
      expect(await verifyLedger(db)).toEqual([]);
    },
  );

  it.each<QuotaKind>(['keypair', 'user', 'project', 'domain'])(
    'keeps to the limits of the %s also in one statement for many, in their order',
    async (kind) => {
      await limit(kind, { cpu: '3' });
      const stranger = await createTenant(db);
      const all = await Promise.all(Array.from({ length: 6 }, () => insert()));
      const other = await insert({}, stranger);
      const placed = await placeTogether([...all, other].map((ids, at) => ({ ...ids, at })));
      expect([...placed.keys()]).toEqual([...all.slice(0, 3), other].map(({ sessionId }) => sessionId));
      expect(await place(all[3]!)).toBe(false);
      await end(all[0]!.sessionId);
      expect(await place(all[3]!)).toBe(true);
      expect(await verifyLedger(db)).toEqual([]);
    },
  );

  it('keeps to the number of sessions in one statement for many, of private ones apart', async () => {
    await limit('keypair', {}, { max_concurrent_sessions: 2, max_concurrent_sftp_sessions: 1 });
    const usual = await Promise.all(Array.from({ length: 3 }, () => insert()));
    const secret = await Promise.all(Array.from({ length: 2 }, () => insert({ type: 'system' })));
    const placed = await placeTogether([...usual, ...secret].map((ids, at) => ({ ...ids, at })));
    expect([...placed.keys()]).toEqual([usual[0], usual[1], secret[0]].map((ids) => ids!.sessionId));
  });

  it('counts the key pairs of a user together, and others apart', async () => {
    await limit('user', { cpu: '1' });
    const second = await createKeypair(db, { userId: tenant.user.id });
    const stranger = await createTenant(db);
    expect(await place(await insert())).toBe(true);
    expect(await place(await insert({}, { ...tenant, keypair: second }))).toBe(false);
    expect(await place(await insert({}, stranger))).toBe(true);
  });

  it('takes slots that a policy does not name as it says: without limit, or none', async () => {
    await limit('keypair', { mem: '1000' });
    expect(await place(await insert())).toBe(true);
    await db.execute(sql`
      update keypair_resource_policies set default_for_unspecified = 'LIMITED' where name = ${tenant.keypair.accessKey}`);
    const session = await insert();
    expect(await place(session)).toBe(false);
    await db.execute(sql`
      update keypair_resource_policies set total_resource_slots = '{"mem": "1000", "cpu": "Infinity"}'
      where name = ${tenant.keypair.accessKey}`);
    expect(await place(session)).toBe(true);
  });

  it('keeps to the number of sessions, of private ones apart, also when they meet', async () => {
    await limit('keypair', {}, { max_concurrent_sessions: 2, max_concurrent_sftp_sessions: 1 });
    const all = await Promise.all(Array.from({ length: 6 }, () => insert()));
    expect((await Promise.all(all.map((session, at) => place(session, at)))).filter(Boolean)).toHaveLength(2);
    const secret = await Promise.all(Array.from({ length: 3 }, () => insert({ type: 'system' })));
    expect((await Promise.all(secret.map((session, at) => place(session, at)))).filter(Boolean)).toHaveLength(1);
    expect(await new QuotaRepository(db).limited()).toMatchObject([
      { sessions: 2, privateSessions: 1, used: { cpu: '2' } },
    ]);
  });

  it('of a private session ignores limits on amounts, and counts for none', async () => {
    await limit('keypair', { cpu: '1' });
    expect(await place(await insert({ type: 'system' }))).toBe(true);
    expect(await place(await insert())).toBe(true);
    expect(await place(await insert())).toBe(false);
  });

  it('that is refused has the limits that stand against it, of whatever kind', async () => {
    await limit('keypair', { cpu: '5' }, { max_concurrent_sessions: 1 });
    for (const kind of ['user', 'project', 'domain'] as const) await limit(kind, { cpu: '1' });
    const waiting = await insert();
    const against = async () => await new QuotaRepository(db).violations(waiting.sessionId);
    expect(await place(await insert())).toBe(true);
    expect((await against()).map(({ scope, slot, used, limit: most }) => [scope, slot, used, most])).toEqual([
      ['domain', 'cpu', '1', '1'],
      ['keypair', 'sessions', '1', '1'],
      ['project', 'cpu', '1', '1'],
      ['user', 'cpu', '1', '1'],
    ]);
    await db.execute(sql`delete from sessions where id <> ${waiting.sessionId}::uuid`);
    expect(await against()).toEqual([]);
  });

  it('takes no turn where nothing is limited', async () => {
    await db.execute(sql`delete from quota_turns`);
    expect(await place(await insert())).toBe(true);
    expect(await db.execute(sql`select 1 from quota_turns`)).toHaveLength(0);
  });
});

describe('a new session', () => {
  const outcomes = async (count: number, over: Partial<NewSession> = {}) =>
    await Promise.all(
      Array.from({ length: count }, () => new SessionRepository(db).insert({ ...newSession(tenant), ...over })),
    );
  const created = (list: Array<{ kind: string }>) => list.filter(({ kind }) => kind === 'created').length;

  it('waits beside no more others than the policy allows, also when they meet', async () => {
    await limit('keypair', {}, { max_pending_session_count: 2 });
    const list = await outcomes(6);
    expect(created(list)).toBe(2);
    expect(list).toContainEqual({ kind: 'over-limit', limit: 'max_pending_session_count' });
    const [waiting] = await db.execute<{ id: string; kernelId: string }>(
      sql`select s.id, k.id as "kernelId" from sessions s join kernels k on k.session_id = s.id limit 1`,
    );
    expect(await place({ sessionId: waiting!.id, kernelId: waiting!.kernelId })).toBe(true);
    expect(created(await outcomes(3))).toBe(1);
  });

  it('asks for no more with those that wait than the policy allows, also when they meet', async () => {
    await limit('keypair', {}, { max_pending_session_resource_slots: '{"cpu": "3"}' });
    const list = await outcomes(6);
    expect(created(list)).toBe(3);
    expect(list).toContainEqual({ kind: 'over-limit', limit: 'max_pending_session_resource_slots' });
  });

  it('has no higher priority and no more kernels than the policy allows', async () => {
    await limit('keypair', {}, { max_priority: 10, max_containers_per_session: 1 });
    expect(await outcomes(1, { priority: 11 })).toEqual([{ kind: 'over-limit', limit: 'max_priority' }]);
    const [main] = newSession(tenant).kernels;
    const two = [main!, { ...main!, role: 'sub' as const, hostname: 'sub1' }];
    expect(await outcomes(1, { kernels: two })).toEqual([{ kind: 'over-limit', limit: 'max_containers_per_session' }]);
    expect(created(await outcomes(1, { priority: 10 }))).toBe(1);
  });

  it('goes to the first group that its owner may use, the default one before', async () => {
    await db.execute(
      sql`insert into resource_groups (name, is_public) values ('hidden', false) on conflict do nothing`,
    );
    await db.execute(sql`insert into resource_groups (name) values ('open') on conflict do nothing`);
    const chosen = async () => {
      const outcome = await new SessionRepository(db).insert({
        ...newSession(tenant),
        resourceGroup: 'hidden',
        otherGroups: ['open', 'default'],
      });
      return outcome.kind === 'created' && outcome.resourceGroup;
    };
    expect(await chosen()).toBe('open');
    await db.execute(sql`update resource_groups set is_default = true where name = 'default'`);
    expect(await chosen()).toBe('default');
    await db.execute(sql`update resource_groups set is_default = false`);
  });
});
