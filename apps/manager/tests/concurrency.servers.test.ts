import { EmbeddedLeases } from '@backend.ai/coordination';
import { kernelSourcesOf, newId } from '@backend.ai/core';
import type { Database, DatabaseHandle } from '@backend.ai/database';
import { type Tenant, testDatabase, waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgentRepository } from '../src/repositories/agents.ts';
import { InstallationRepository } from '../src/repositories/installation.ts';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { PeerRepository } from '../src/repositories/peers.ts';
import { QueueRepository } from '../src/repositories/queue.ts';
import { SessionTransitions } from '../src/repositories/session-transitions.ts';
import { SessionRepository } from '../src/repositories/sessions.ts';
import { WarmPoolRepository } from '../src/repositories/warm-pools.ts';
import { elect, prepareLedger, registerAgent } from './ledger-world.ts';
import { newSession } from './new-session.ts';

/** What only several connections can show: statements that really meet, in an order that locks decide. */

let handle: DatabaseHandle;
let db: Database;
let tenant: Tenant;
let epoch = 0;

beforeAll(async () => {
  handle = await testDatabase();
  db = handle.db;
  tenant = await prepareLedger(db);
});
afterAll(() => handle.close());
beforeEach(async () => {
  await db.execute(sql`delete from sessions`);
  epoch += 1;
  await elect(db, epoch);
  await register({ cpu: '4', mem: '1000' });
  await db.execute(sql`update agent_resources set used = 0`);
});

const register = (slots: Record<string, string>): Promise<void> => registerAgent(db, 'i-one', slots);

async function insert(): Promise<{ sessionId: string; kernelId: string }> {
  const session = newSession(tenant);
  expect((await new SessionRepository(db).insert(session)).kind).toBe('created');
  return { sessionId: session.id, kernelId: session.kernelId };
}

const place = async (on: Database, { sessionId, kernelId }: { sessionId: string; kernelId: string }, at = epoch) => {
  const kernels = [{ kernelId, agentId: 'i-one' }];
  return (await new SessionTransitions(on).place({ sessionId, kernels, epoch: at })).length > 0;
};
const end = (sessionId: string) =>
  new SessionTransitions(db).apply({ target: { sessionId }, to: 'ERROR', reason: 'agent-lost' });

/** Starts `late` once `early` has done its work, and ends the transaction of `early` once `late` waits for it. */
async function whileWaiting<T>(early: (tx: Database) => Promise<unknown>, late: () => Promise<T>): Promise<T> {
  let waiting: Promise<T> | undefined;
  await db.transaction(async (tx) => {
    await early(tx as unknown as Database);
    waiting = late();
    // Of this database, as others have tests, too; within a transaction its view would not change.
    const blocked = sql`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await waitFor(async () => (await db.execute(blocked)).length > 0, { what: 'a statement that waits for a lock' });
  });
  return await waiting!;
}

describe('a change of state that waits for another one', () => {
  it('gives back what a placement took that it did not see when it began', async () => {
    const ids = await insert();
    const ended = await whileWaiting(
      async (tx) => {
        await tx.execute(sql`select 1 from sessions where id = ${ids.sessionId}::uuid for update`);
        expect(await place(tx, ids)).toBeTruthy();
      },
      () => end(ids.sessionId),
    );
    expect(ended).toMatchObject([{ to: 'ERROR' }]);
    expect(ended[0]?.from).not.toBe('PENDING');
    expect(await verifyLedger(db)).toEqual([]);
    expect([...(await db.execute(sql`select sum(used)::float8 as used from agent_resources`))]).toEqual([{ used: 0 }]);
  });

  it('does nothing when the other one led elsewhere', async () => {
    const ids = await insert();
    const placed = await whileWaiting(
      (tx) =>
        new SessionTransitions(tx).apply({
          target: { sessionId: ids.sessionId },
          to: 'CANCELLED',
          reason: 'user-requested',
        }),
      () => place(db, ids),
    );
    expect(placed).toBe(false);
    expect(await verifyLedger(db)).toEqual([]);
  });
});

describe('kernels of one session', () => {
  it('that become the last one at the same time take it along', async () => {
    const transitions = new SessionTransitions(db);
    const session = newSession(tenant, { size: 4 });
    await new SessionRepository(db).insert(session);
    const kernels = session.kernels.map(({ id }) => ({ kernelId: id as string, agentId: 'i-one' }));
    expect(await transitions.place({ sessionId: session.id, kernels, epoch })).toHaveLength(4);
    for (const to of ['CREATING', 'RUNNING', 'TERMINATED'] as const) {
      const tell = (kernelId: string) => transitions.applyToKernels({ target: { kernelId }, to, reason: 'progress' });
      await Promise.all(kernels.map(({ kernelId }) => tell(kernelId)));
      // The first end ends all: what is told twice changes nothing.
      const [row] = await db.execute<{ status: string }>(
        sql`select status from sessions where id = ${session.id}::uuid`,
      );
      expect(row?.status).toBe(to);
      expect(await verifyLedger(db)).toEqual([]);
    }
  });
});

describe('the ledger', () => {
  it('is sound while sessions are placed, ended, started again and agents register, all at once', async () => {
    const transitions = new SessionTransitions(db);
    const all = await Promise.all(Array.from({ length: 12 }, insert));
    const pending = async (sessionId: string) =>
      (await new QueueRepository(db).pending()).find((session) => session.sessionId === sessionId);
    await Promise.all([
      ...all.map(async ({ sessionId }) => {
        for (let round = 0; round < 6; round++) {
          const waiting = await pending(sessionId);
          if (waiting) await place(db, { sessionId, kernelId: waiting.kernels[0]!.kernelId });
          await transitions.apply({ target: { sessionId }, to: 'PENDING', reason: 'agent-refused', epoch });
        }
        await end(sessionId);
      }),
      (async () => {
        for (let round = 0; round < 10; round++) {
          await register(round % 2 === 0 ? { mem: '1000', cpu: '4', 'cuda.device': '1' } : { cpu: '4', mem: '1000' });
          expect((await verifyLedger(db)).filter(({ kind }) => kind !== 'over-capacity')).toEqual([]);
        }
      })(),
    ]);
    expect(await verifyLedger(db)).toEqual([]);
    expect([...(await db.execute(sql`select sum(used)::float8 as used from agent_resources`))]).toEqual([{ used: 0 }]);
  });

  it('never gives more than there is to placements that meet', async () => {
    const all = await Promise.all(Array.from({ length: 12 }, insert));
    const placed = await Promise.all(all.map((ids) => place(db, ids)));
    expect(placed.filter(Boolean)).toHaveLength(4);
    expect(await verifyLedger(db)).toEqual([]);
  });
});

describe('the fence', () => {
  it('stops the write of a leader that waited while another one was elected', async () => {
    const ids = await insert();
    const placed = await whileWaiting(
      (tx) => elect(tx, epoch + 1),
      () => place(db, ids),
    );
    expect(placed).toBe(false);
    expect(await place(db, ids, epoch + 1)).toBeTruthy();
    epoch += 1;
  });

  it('makes an election wait for a write of the leader', async () => {
    const ids = await insert();
    const order: string[] = [];
    await whileWaiting(
      async (tx) => {
        expect(await place(tx, ids)).toBeTruthy();
        order.push('written');
      },
      async () => {
        await elect(db, epoch + 1);
        order.push('elected');
      },
    );
    epoch += 1;
    expect(order).toEqual(['written', 'elected']);
  });
});

describe('what is decided once', () => {
  it('has one winner among many', async () => {
    const leases = await EmbeddedLeases.open(db);
    const won = await Promise.all(Array.from({ length: 10 }, (_, at) => leases.acquire('role', `m-${at}`, 60_000)));
    expect(won.filter(Boolean)).toHaveLength(1);

    const names = await Promise.all(
      Array.from({ length: 10 }, () => new SessionRepository(db).insert(newSession(tenant, { name: 'wanted' }))),
    );
    expect(names.filter(({ kind }) => kind === 'created')).toHaveLength(1);
    expect(names.filter(({ kind }) => kind === 'exists' || kind === 'raced')).toHaveLength(9);

    const peers = new PeerRepository(db);
    await peers.createToken({ id: newId(), tokenHash: 'once', kind: 'agent', resourceGroup: null, ttlMs: 60_000 });
    const joined = await Promise.all(
      Array.from({ length: 10 }, (_, at) =>
        peers.join({ tokenHash: 'once', kind: 'agent', id: `i-${at}`, publicKey: 'k', requestId: 'r' }),
      ),
    );
    expect(joined.filter((outcome) => outcome === 'joined')).toHaveLength(1);
  });

  it('makes one first administrator for managers that start together', async () => {
    const { db: empty, close } = await testDatabase();
    try {
      const installation = new InstallationRepository(empty);
      await installation.ensureDefaults(newId());
      const admins = await Promise.all(
        Array.from({ length: 5 }, (_, at) =>
          installation.ensureSuperadmin({
            userId: newId(),
            email: 'admin@example.test',
            accessKey: `AKIA${at}`,
            secretKeyEncrypted: 'x',
          }),
        ),
      );
      expect(new Set(admins.map(({ accessKey }) => accessKey)).size).toBe(1);
      expect(await empty.execute(sql`select 1 from keypairs`)).toHaveLength(1);
    } finally {
      await close();
    }
  });

  it('counts an event once that comes over two connections', async () => {
    const ids = await insert();
    await place(db, ids);
    const tell = () =>
      new SessionTransitions(db).tell(
        { moves: 'kernels', to: 'TERMINATING', from: kernelSourcesOf('TERMINATING') },
        {
          ...{ agentId: 'i-one', kernelId: ids.kernelId, requestId: 'r', reason: 'kernel-lost' },
          event: { seq: epoch * 1_000, count: true },
        },
      );
    const moved = await Promise.all(Array.from({ length: 6 }, tell));
    expect(moved.flat()).toHaveLength(1);
    expect(await new AgentRepository(db).ackedSeq('i-one')).toBe(epoch * 1_000);
  });
});

describe('a placement that waits while a warm slot is made', () => {
  const poolId = newId();
  beforeAll(async () => {
    const kind = { image: 'i', architecture: 'x86_64', slots: { cpu: '4' }, shmem: null, size: 1 };
    await new WarmPoolRepository(db).create({ id: poolId, name: 'pool', resourceGroup: 'default', ...kind });
  });

  it('sees the slot, which has to go for it', async () => {
    const ids = await insert();
    const pools = new WarmPoolRepository(db);
    const placed = await whileWaiting(
      async (tx) => {
        const slot = { id: newId(), poolId, agentId: 'i-one', origin: null };
        expect(await new WarmPoolRepository(tx).reserve([slot], epoch)).toBe(1);
      },
      () => place(db, ids),
    );
    expect(placed).toBe(true);
    expect(await pools.slots()).toEqual([]);
    expect(await verifyLedger(db)).toEqual([]);
  });
});
