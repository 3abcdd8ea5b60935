import {
  type KernelStatus,
  kernelSourcesOf,
  kernelStatuses,
  kernelStatusesOf,
  mayFollow,
  promotionOf,
  type SessionStatus,
  sessionStatuses,
  sourcesOf,
} from '@backend.ai/core';
import { type DatabaseHandle, sqlStateOf, sqlStates } from '@backend.ai/database';
import { type Tenant, testDatabase } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentRepository } from '../src/repositories/agents.ts';
import { KernelRepository } from '../src/repositories/kernels.ts';
import { verifyLedger } from '../src/repositories/ledger.ts';
import { QueueRepository } from '../src/repositories/queue.ts';
import { SessionTransitions } from '../src/repositories/session-transitions.ts';
import { type NewSession, SessionRepository } from '../src/repositories/sessions.ts';
import { elect, prepareLedger, registerAgent } from './ledger-world.ts';
import { newSession } from './new-session.ts';

let handle: DatabaseHandle;
let transitions: SessionTransitions;
let sessions: SessionRepository;
let tenant: Tenant;
const epoch = 7;

beforeAll(async () => {
  handle = await testDatabase();
  const { db } = handle;
  transitions = new SessionTransitions(db);
  sessions = new SessionRepository(db);
  tenant = await prepareLedger(db);
  await elect(db, epoch);
  await register('i-one', { cpu: '4', mem: '1000' });
});
afterAll(() => handle.close());

const register = (agentId: string, slots: Record<string, string>): Promise<void> =>
  registerAgent(handle.db, agentId, slots);

async function insert(slots?: Record<string, string>, size = 1) {
  const session = newSession(tenant, { ...(slots ? { slots } : {}), size });
  expect((await sessions.insert(session)).kind).toBe('created');
  const { id: sessionId, kernelId, kernels } = session;
  return {
    sessionId: sessionId as string,
    kernelId: kernelId as string,
    kernels: kernels.map(({ id }) => id as string),
  };
}

const place = async ({ sessionId, kernelId }: { sessionId: string; kernelId: string }, at = epoch) =>
  (await transitions.place({ sessionId, kernels: [{ kernelId, agentId: 'i-one' }], epoch: at }))[0] ?? false;
const used = async () =>
  (
    await handle.db.execute<{ used: string }>(
      sql`select used::text from agent_resources where agent_id = 'i-one' and slot_name = 'cpu'`,
    )
  )[0]!.used;
/** Violations but for those that come of states which were written by hand. */
const inconsistent = async () => (await verifyLedger(handle.db)).filter(({ kind }) => kind === 'states-differ');
async function put(sessionId: string, status: SessionStatus, kernels: readonly KernelStatus[]): Promise<void> {
  await handle.db.execute(sql`update sessions set status = ${status} where id = ${sessionId}::uuid`);
  const ids = await handle.db.execute<{ id: string }>(
    sql`select id from kernels where session_id = ${sessionId}::uuid order by cluster_role, cluster_index`,
  );
  for (const [at, { id }] of ids.entries()) {
    await handle.db.execute(
      sql`update kernels set status = ${kernels[at]!}, agent_id = 'i-one' where id = ${id}::uuid`,
    );
  }
}
const move = (sessionId: string, to: SessionStatus) =>
  transitions.apply({ target: { sessionId }, to, reason: 'progress' });

describe('a change of state', () => {
  it('follows the table from every state, takes the kernel along, and does nothing the second time', async () => {
    for (const from of sessionStatuses) {
      for (const to of sessionStatuses) {
        const follows = sourcesOf(to).includes(from);
        for (const kernel of follows ? kernelStatusesOf[from] : kernelStatusesOf[from].slice(0, 1)) {
          const change = `${from} with a kernel in ${kernel} to ${to}`;
          const { sessionId } = await insert({});
          await put(sessionId, from, [kernel]);
          const moved = await move(sessionId, to);
          expect(moved.length, change).toBe(follows ? 1 : 0);
          // With a kernel that has ended it may go further.
          for (const done of moved) expect(mayFollow(done.from, done.to), `${change}, ${done.to}`).toBe(true);
          if (!sourcesOf(to).includes(to)) expect(await move(sessionId, to)).toEqual([]);
          const history = await sessions.history(sessionId);
          expect(history).toHaveLength(1 + moved.length);
          expect(await inconsistent(), change).toEqual([]);
          await handle.db.execute(sql`delete from sessions where id = ${sessionId}::uuid`);
        }
      }
    }
    expect(await verifyLedger(handle.db)).toEqual([]);
  });
});

describe('a session that depends on another', () => {
  it('is told of when it waits for one that has ended long ago', async () => {
    const { sessionId: job } = await insert({});
    const dependent = { ...newSession(tenant, { slots: {} }), dependencies: [job] };
    expect((await sessions.insert(dependent)).kind).toBe('created');
    const inVain = async () => (await verifyLedger(handle.db)).filter(({ kind }) => kind === 'waits-in-vain');
    const end = (ago: string, result: string) =>
      handle.db.execute(sql`update sessions set status = 'ERROR', result = ${result},
        terminated_at = now() - ${ago}::interval where id = ${job}::uuid`);
    await handle.db.execute(
      sql`update sessions set status_reason = 'dependency-unfinished' where id = ${dependent.id}::uuid`,
    );
    expect(await inVain()).toEqual([]);
    await end('0 s', 'failure');
    expect(await inVain()).toEqual([]);
    for (const result of ['failure', 'success']) {
      await end('1 hour', result);
      expect(await inVain()).toMatchObject([{ subject: dependent.id, detail: { sessions: [job] } }]);
    }
    await handle.db.execute(sql`delete from sessions where id in (${dependent.id}::uuid, ${job}::uuid)`);
  });
});

describe('the ledger', () => {
  it('is taken once and given back once', async () => {
    const ids = await insert();
    const results = [await place(ids), await place(ids)];
    expect(results.map(Boolean)).toEqual([true, false]);
    expect(await used()).toBe('1.000000');
    expect(await verifyLedger(handle.db)).toEqual([]);
    expect(await move(ids.sessionId, 'PENDING')).toHaveLength(1);
    expect(await used()).toBe('0.000000');
    // The next attempt is another kernel, and its entries of the ledger are its own.
    expect(await place(ids)).toBe(false);
    const [waiting] = await new QueueRepository(handle.db).pending();
    expect(waiting?.kernels[0]?.kernelId).not.toBe(ids.kernelId);
    expect(await place({ ...ids, kernelId: waiting!.kernels[0]!.kernelId })).toBeTruthy();
    expect(await verifyLedger(handle.db)).toEqual([]);
    expect(await move(ids.sessionId, 'ERROR')).toHaveLength(1);
    expect(await move(ids.sessionId, 'ERROR')).toEqual([]);
    expect(await used()).toBe('0.000000');
    expect(await verifyLedger(handle.db)).toEqual([]);
  });

  it('gives all slots or none, and never more than there is', async () => {
    const greedy = await insert({ cpu: '1', mem: '2000' });
    expect(await place(greedy)).toBe(false);
    const strange = await insert({ cpu: '1', 'cuda.device': '1' });
    expect(await place(strange)).toBe(false);
    expect(await used()).toBe('0.000000');
    const many = await Promise.all(Array.from({ length: 6 }, () => insert()));
    const placed = await Promise.all(many.map((ids) => place(ids)));
    expect(placed.filter(Boolean)).toHaveLength(4);
    expect(await verifyLedger(handle.db)).toEqual([]);
    for (const { sessionId } of many) await move(sessionId, 'ERROR');
    expect(await used()).toBe('0.000000');
  });

  it('is out of reach for a leader of the past', async () => {
    const ids = await insert();
    expect(await place(ids, epoch - 1)).toBe(false);
    expect(await place(ids)).toBeTruthy();
    const past = await transitions.apply({ target: ids, to: 'TERMINATING', reason: 'agent-lost', epoch: epoch - 1 });
    expect(past).toEqual([]);
    await move(ids.sessionId, 'ERROR');
  });

  it('shows what is wrong with it', async () => {
    await handle.db.execute(sql`update agent_resources set used = 3 where slot_name = 'cpu'`);
    expect(await verifyLedger(handle.db)).toMatchObject([{ kind: 'balance-differs', subject: 'i-one cpu' }]);
    await handle.db.execute(sql`update agent_resources set used = 0`);
  });
});

describe('a placement', () => {
  it('goes to no agent that was closed or given to another group meanwhile', async () => {
    const { db } = handle;
    await db.execute(sql`insert into resource_groups (name) values ('elsewhere')`);
    const session = await insert();
    const { sessionId } = session;
    for (const change of ['schedulable = false', "schedulable = true, resource_group = 'elsewhere'"]) {
      await db.execute(sql.raw(`update agents set ${change} where id = 'i-one'`));
      expect(await place(session)).toBe(false);
      const reserving = { kernels: [{ kernelId: session.kernelId, agentId: 'i-one' }], victims: [], epoch };
      expect(await transitions.reserve({ sessionId, ...reserving, mode: 'terminate' })).toEqual([]);
    }
    await db.execute(sql`update agents set resource_group = 'default' where id = 'i-one'`);
    expect(await place(session)).not.toBe(false);
    await transitions.apply({ target: { sessionId }, to: 'ERROR', reason: 'agent-lost' });
  });

  it('goes through SCHEDULED to PREPARING in one step, and tells both steps and what the agent needs', async () => {
    const ids = await insert();
    const { sessionId, kernelId } = ids;
    expect(await place(ids)).toMatchObject({
      sessionId,
      kernelId,
      agentId: 'i-one',
      from: 'PENDING',
      to: 'PREPARING',
      image: 'i',
      hostname: 'main1',
      slots: { cpu: '1', mem: '100' },
    });
    expect(await sessions.history(ids.sessionId)).toMatchObject([
      { fromStatus: null, toStatus: 'PENDING' },
      { fromStatus: 'PENDING', toStatus: 'SCHEDULED', data: { agent: 'i-one' }, requestId: 'req-1' },
      { fromStatus: 'SCHEDULED', toStatus: 'PREPARING', requestId: 'req-1' },
    ]);
    expect(await new KernelRepository(handle.db).preparing()).toMatchObject([
      { sessionId, kernelId, agentId: 'i-one' },
    ]);
    await move(ids.sessionId, 'ERROR');
  });
});

describe('a session of several kernels', () => {
  const placeAll = async ({ sessionId, kernels }: { sessionId: string; kernels: string[] }, agents: string[]) =>
    await transitions.place({
      sessionId,
      kernels: kernels.map((kernelId, at) => ({ kernelId, agentId: agents[at % agents.length]! })),
      epoch,
    });
  const tell = (kernelId: string, to: KernelStatus) =>
    transitions.applyToKernels({ target: { kernelId }, to, reason: 'progress', keepReasonOfEnding: true });
  const stateOf = async (sessionId: string) => {
    const session = await sessions.findById(sessionId);
    return { status: session!.status, reason: session!.statusReason, kernels: session!.kernels.map((k) => k.status) };
  };
  const both = ['i-one', 'i-two'];

  beforeAll(() => register('i-two', { cpu: '2', mem: '1000' }));

  it('is placed over several agents with all its kernels or not at all', async () => {
    const ids = await insert({ cpu: '1', mem: '100' }, 3);
    const { sessionId, kernels } = ids;
    expect(
      await transitions.place({ sessionId, kernels: [{ kernelId: kernels[0]!, agentId: 'i-one' }], epoch }),
    ).toEqual([]);
    const greedy = await insert({ cpu: '2', mem: '100' }, 4);
    expect(await placeAll(greedy, both)).toEqual([]);
    expect(await used()).toBe('0.000000');
    const placed = await placeAll(ids, both);
    expect(placed.map(({ hostname, agentId }) => [hostname, agentId])).toEqual([
      ['main1', 'i-one'],
      ['sub1', 'i-two'],
      ['sub2', 'i-one'],
    ]);
    expect(await used()).toBe('2.000000');
    expect(await verifyLedger(handle.db)).toEqual([]);
    await move(sessionId, 'ERROR');
    expect(await used()).toBe('0.000000');
  });

  it('runs when the last of its kernels does', async () => {
    const ids = await insert({ cpu: '1' }, 2);
    const [main, sub] = ids.kernels as [string, string];
    await placeAll(ids, both);
    for (const [kernel, to, expected] of [
      [main, 'CREATING', 'PREPARING'],
      [main, 'RUNNING', 'PREPARING'],
      [sub, 'CREATING', 'CREATING'],
      [sub, 'RUNNING', 'RUNNING'],
    ] as const) {
      expect(await tell(kernel, to)).toHaveLength(1);
      expect((await stateOf(ids.sessionId)).status).toBe(expected);
      expect(await verifyLedger(handle.db)).toEqual([]);
    }
    const { length } = await sessions.history(ids.sessionId);
    expect(length).toBe(5);
    await move(ids.sessionId, 'ERROR');
  });

  it('ends with any of its kernels, keeps the reason, and frees each kernel with its own end', async () => {
    const ids = await insert({ cpu: '1' }, 2);
    const [main, sub] = ids.kernels as [string, string];
    await placeAll(ids, ['i-one']);
    for (const kernel of [main, sub]) for (const to of ['CREATING', 'RUNNING'] as const) await tell(kernel, to);
    expect(await tell(sub, 'ERROR')).toMatchObject([{ from: 'RUNNING', to: 'TERMINATING', kernelId: sub }]);
    expect(await stateOf(ids.sessionId)).toEqual({
      status: 'TERMINATING',
      reason: 'abnormal-termination',
      kernels: ['TERMINATING', 'ERROR'],
    });
    expect(await used()).toBe('1.000000');
    expect(await verifyLedger(handle.db)).toEqual([]);
    await tell(main, 'TERMINATED');
    expect(await stateOf(ids.sessionId)).toMatchObject({ status: 'ERROR' });
    expect(await used()).toBe('0.000000');
  });

  it('goes back to the queue as a whole, with new kernels', async () => {
    const ids = await insert({ cpu: '1' }, 3);
    await placeAll(ids, both);
    await tell(ids.kernels[0]!, 'CREATING');
    const [back] = await transitions.apply({
      target: { kernelId: ids.kernels[1]!, agentId: 'i-two' },
      to: 'PENDING',
      reason: 'agent-refused',
    });
    expect(back?.kernels.map(({ kernelId }) => kernelId).sort()).toEqual([...ids.kernels].sort());
    expect(await tell(ids.kernels[0]!, 'RUNNING')).toEqual([]);
    expect(await stateOf(ids.sessionId)).toMatchObject({ kernels: ['PENDING', 'PENDING', 'PENDING'] });
    expect(await used()).toBe('0.000000');
    expect(await verifyLedger(handle.db)).toEqual([]);
    expect(await move(ids.sessionId, 'CANCELLED')).toHaveLength(1);
  });

  it('follows its kernels in the database as the pure rules say, whatever they are', async () => {
    const { sessionId, kernels } = await insert({}, 2);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...sessionStatuses),
        fc.tuple(fc.constantFrom(...kernelStatuses), fc.constantFrom(...kernelStatuses)),
        fc.constantFrom(...kernelStatuses),
        fc.boolean(),
        async (status, [main, sub], to, tolerant) => {
          await put(sessionId, status, [main, sub]);
          await handle.db.execute(sql`update sessions set failure_policy = ${tolerant ? 'tolerant' : 'strict'}
            where id = ${sessionId}::uuid`);
          const moved = await tell(kernels[0]!, to);
          expect(moved).toHaveLength(kernelSourcesOf(to).includes(main) ? 1 : 0);
          if (moved.length === 0) return;
          const after = [
            { status: to, role: 'main' as const },
            { status: sub, role: 'sub' as const },
          ];
          expect(moved[0]?.to).toBe(promotionOf(after, status, tolerant)?.to ?? status);
        },
      ),
      { numRuns: 150 },
    );
    await handle.db.execute(sql`delete from sessions where id = ${sessionId}::uuid`);
  });
});

describe('placements in one statement', () => {
  const writeOf = ({ sessionId, kernels }: { sessionId: string; kernels: string[] }, agentId = 'i-one') => ({
    sessionId,
    kernels: kernels.map((kernelId) => ({ kernelId, agentId })),
  });
  const freeAll = async () => {
    await handle.db.execute(sql`delete from sessions`);
    await handle.db.execute(sql`update agent_resources set used = 0`);
  };

  it('take in their order what there is, all or nothing for each session', async () => {
    const [one, large, last, idle] = [
      await insert({ cpu: '2' }),
      await insert({ cpu: '1' }, 3),
      await insert({ cpu: '2' }),
      await insert({ cpu: '0' }),
    ];
    const placed = await transitions.placeAll(
      [one, large, last, idle].map((ids) => writeOf(ids)),
      epoch,
    );
    // The last one would have room, as the large one was not placed; that is found by itself.
    expect([...placed.keys()]).toEqual([one.sessionId, idle.sessionId]);
    expect(Number(await used())).toBe(2);
    expect(await transitions.place({ ...writeOf(large), epoch })).toEqual([]);
    expect(await transitions.place({ ...writeOf(last), epoch })).toHaveLength(1);
    expect(await verifyLedger(handle.db)).toEqual([]);
    await freeAll();
  });

  it('leave out who waits no more, goes to an agent that is not open, or is placed by a leader of old', async () => {
    const [ended, open, closed] = [await insert({ cpu: '1' }), await insert({ cpu: '1' }), await insert({ cpu: '1' })];
    await transitions.apply({ target: { sessionId: ended.sessionId }, to: 'CANCELLED', reason: 'user-requested' });
    const writes = [writeOf(ended), writeOf(open), writeOf(closed, 'i-none')];
    expect((await transitions.placeAll(writes, epoch - 1)).size).toBe(0);
    expect([...(await transitions.placeAll(writes, epoch)).keys()]).toEqual([open.sessionId]);
    expect(await verifyLedger(handle.db)).toEqual([]);
    await freeAll();
  });

  it('of sessions of one and of several kernels are told in history as they are by themselves', async () => {
    const [single, cluster] = [await insert({ cpu: '1' }), await insert({ cpu: '1' }, 2)];
    await transitions.placeAll(
      [
        { ...writeOf(single), why: { nth: 1 } },
        { ...writeOf(cluster), why: { nth: 2 } },
      ],
      epoch,
    );
    const dataOf = async (sessionId: string) =>
      (await sessions.history(sessionId)).filter(({ toStatus }) => toStatus === 'SCHEDULED').map(({ data }) => data);
    expect(await dataOf(single.sessionId)).toEqual([{ agent: 'i-one', nth: 1 }]);
    const agents = Object.fromEntries(cluster.kernels.map((kernelId) => [kernelId, 'i-one']));
    expect(await dataOf(cluster.sessionId)).toContainEqual({ agents, nth: 2 });
    await freeAll();
  });
});

describe('sessions that are created at the same moment', () => {
  it('are inserted together, unless a name is taken', async () => {
    const names = ['a', 'b', 'a', 'c'];
    const outcomes = await Promise.all(names.map((name) => sessions.insert({ ...newSession(tenant, {}), name })));
    expect(outcomes.map(({ kind }) => kind).sort()).toEqual(['created', 'created', 'created', 'exists']);
    await handle.db.execute(sql`delete from sessions`);
  });

  it('hear of their own, also when what comes with them cannot be inserted', async () => {
    const good = Array.from({ length: 3 }, () => newSession(tenant, {}));
    const bad = { ...newSession(tenant, {}), type: 'batch', clusterMode: 'sideways' } as unknown as NewSession;
    const settled = await Promise.allSettled([...good, bad].map((session) => sessions.insert(session)));
    expect(settled.map((one) => (one.status === 'fulfilled' ? one.value.kind : sqlStateOf(one.reason)))).toEqual([
      ...good.map(() => 'created'),
      sqlStates.checkViolation,
    ]);
    await handle.db.execute(sql`delete from sessions`);
  });

  it('count for the limits of each other', async () => {
    const { accessKey } = tenant.keypair;
    await handle.db.execute(sql`
      insert into keypair_resource_policies (name, max_pending_session_count) values ('two', 2)`);
    await handle.db.execute(sql`update keypairs set resource_policy = 'two' where access_key = ${accessKey}`);
    const all = await Promise.all(Array.from({ length: 5 }, () => sessions.insert(newSession(tenant, {}))));
    expect(all.map(({ kind }) => kind).sort()).toEqual([
      'created',
      'created',
      'over-limit',
      'over-limit',
      'over-limit',
    ]);
    await handle.db.execute(sql`update keypairs set resource_policy = 'default' where access_key = ${accessKey}`);
    await handle.db.execute(sql`delete from sessions`);
  });
});

const creating = { moves: 'kernels', to: 'CREATING', from: kernelSourcesOf('CREATING') } as const;
const passes = { from: kernelSourcesOf('CREATING'), by: 'CREATING' } as const;
const running = { moves: 'kernels', to: 'RUNNING', from: kernelSourcesOf('RUNNING'), passes } as const;
const ended = { moves: 'kernels', to: 'TERMINATED', from: kernelSourcesOf('TERMINATED') } as const;

describe('facts that agents tell at the same time', () => {
  const fact = (kernelId: string) => ({ agentId: 'i-one', kernelId, requestId: `r-${kernelId}` });
  const statusesOf = async (sessionId: string) => (await sessions.history(sessionId)).map(({ toStatus }) => toStatus);
  const statementsOf = () => {
    const db = Object.create(handle.db) as typeof handle.db;
    let statements = 0;
    db.execute = ((query: never) => {
      statements += 1;
      return handle.db.execute(query);
    }) as typeof db.execute;
    return { transitions: new SessionTransitions(db), count: () => statements };
  };

  it('are written together, each with what it says, and each caller hears of its own', async () => {
    await register('i-one', { cpu: '20', mem: '20000' });
    const many = await Promise.all(Array.from({ length: 8 }, () => insert()));
    for (const ids of many) await place(ids);
    const { transitions: counted, count } = statementsOf();
    const started = await Promise.all(
      many.map(({ kernelId }, nth) =>
        counted.tell(running, { ...fact(kernelId), reason: 'started', kernelData: { nth } }),
      ),
    );
    expect(count()).toBe(1);
    for (const [nth, { sessionId, kernelId }] of many.entries()) {
      expect(started[nth]).toMatchObject([{ sessionId, kernelId, from: 'PREPARING', to: 'RUNNING' }]);
      expect(await statusesOf(sessionId)).toEqual(['PENDING', 'SCHEDULED', 'PREPARING', 'CREATING', 'RUNNING']);
      const rows = await handle.db.execute(
        sql`select k.status_data, h.request_id from kernels k join session_history h on h.session_id = k.session_id
          where k.id = ${kernelId}::uuid and h.to_status = 'RUNNING'`,
      );
      expect(rows).toEqual([{ status_data: { nth }, request_id: `r-${kernelId}` }]);
    }
    // One more comes too late, for a kernel that is gone, beside the others.
    const [late, ...others] = await Promise.all(
      [{ kernelId: '00000000-0000-4000-8000-000000000000' }, ...many].map(({ kernelId }) =>
        counted.tell(ended, { ...fact(kernelId), reason: 'self-terminated', exitCode: 3 }),
      ),
    );
    expect(late).toEqual([]);
    expect(others.flat().map(({ to, reason }) => [to, reason])).toEqual(
      many.map(() => ['TERMINATED', 'self-terminated']),
    );
    expect(Number(await used())).toBe(0);
    expect(await verifyLedger(handle.db)).toEqual([]);
    await handle.db.execute(sql`delete from sessions`);
    await register('i-one', { cpu: '4', mem: '1000' });
  });

  it('of kernels of one session move it from one to the next', async () => {
    const ids = await insert({ cpu: '1' }, 3);
    const kernels = ids.kernels.map((kernelId) => ({ kernelId, agentId: 'i-one' }));
    expect(await transitions.place({ sessionId: ids.sessionId, kernels, epoch })).toHaveLength(3);
    const tell = (kind: typeof creating | typeof running, reason: 'progress' | 'started') =>
      Promise.all(ids.kernels.map((kernelId) => transitions.tell(kind, { ...fact(kernelId), reason })));
    expect((await tell(running, 'started')).flat()).toEqual([]);
    expect((await tell(creating, 'progress')).flat().map(({ from, to }) => [from, to])).toEqual([
      ['PREPARING', 'PREPARING'],
      ['PREPARING', 'PREPARING'],
      ['PREPARING', 'CREATING'],
    ]);
    expect((await tell(running, 'started')).flat().map(({ to }) => to)).toEqual(['CREATING', 'CREATING', 'RUNNING']);
    expect(await inconsistent()).toEqual([]);
    await handle.db.execute(sql`delete from sessions`);
    await handle.db.execute(sql`update agent_resources set used = 0`);
  });
});

describe('an event', () => {
  it('is counted with what it changes, and changes nothing when it was counted', async () => {
    const ids = await insert();
    await place(ids);
    const agents = new AgentRepository(handle.db);
    const fact = (seq: number) => ({
      ...{ agentId: 'i-one', kernelId: ids.kernelId, requestId: 'r' },
      event: { seq, count: true },
    });
    expect(await transitions.tell(creating, { ...fact(5), reason: 'progress' })).toHaveLength(1);
    expect(await agents.ackedSeq('i-one')).toBe(5);
    const started = { reason: 'started' } as const;
    expect(await transitions.tell(running, { ...fact(5), ...started })).toEqual([]);
    expect(await transitions.tell(running, { ...fact(6), ...started, agentId: 'i-two' })).toEqual([]);
    expect(await agents.ackedSeq('i-one')).toBe(5);
    expect(await transitions.tell(running, { ...fact(6), ...started })).toHaveLength(1);
    await agents.acknowledge('i-one', 3);
    expect(await agents.ackedSeq('i-one')).toBe(6);
  });
});
