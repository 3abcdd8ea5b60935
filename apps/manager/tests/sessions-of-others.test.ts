import { createApiRouter, type UserActor } from '@backend.ai/contract';
import { type AppError, newId } from '@backend.ai/core';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type ApiCaller, addMember, apiOf, createTenants, type Tenants } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

function nested(): unknown {
  return new Proxy(() => undefined, { get: nested });
}

interface Described {
  readonly _def: { readonly inputs: readonly unknown[] };
}

/** Every procedure that takes a session, as the router has it: a new one is called here without anybody's doing. */
const table: Record<string, unknown> = createApiRouter(new Proxy({}, { get: nested }) as never)._def.procedures;
const takesSession = ({ _def }: Described): boolean =>
  _def.inputs.some((input) => input instanceof z.ZodObject && 'session' in input.shape);
const procedures = Object.keys(table).filter((path) => takesSession(table[path] as Described));

/** What they need besides the session; one that needs anything new fails below until it is here. */
const needs: Readonly<Record<string, object>> = {
  'session.wait': { until: 'ended', timeoutMs: 0 },
  'session.rename': { name: 'other' },
  'session.commit': { image: 'mine' },
  'session.execute': { mode: 'query', runId: null, code: '1', holdMs: 0, flushMs: 0 },
  'session.startService': { service: 'web' },
  'session.stopService': { service: 'web' },
  'session.complete': { code: 'a' },
};

let world: World;
let tenants: Tenants & { readonly foreigner: UserActor };

beforeAll(async () => {
  world = await createWorld();
  await world.addAgent('i-one', { backend: 'docker', slots: { cpu: '64', mem: String(64 * 1024 ** 3) } });
  tenants = { ...(await createTenants(world)), foreigner: (await addMember(world, 'theirs')).actor };
  const superadmin = apiOf(world, tenants.superadmin);
  await superadmin((api) => api.admin.project.create({ name: 'lab', domain: 'ours' }));
  await join(tenants.user);
  await join(tenants.neighbour);
});
afterAll(() => world.close());

const join = ({ email }: UserActor) =>
  apiOf(world, world.admin)((api) => api.admin.project.addMembers({ project: 'lab', domain: 'ours', users: [email] }));

async function run(owner: UserActor, name: string): Promise<string> {
  const asked = { image: 'python', name, domain: 'ours', project: 'lab' };
  const { session } = await apiOf(world, owner)((api) => api.session.create(asked));
  return (await world.until(session.id, 'RUNNING')).id;
}

/** The answer, of a stream its first one. */
async function call(api: ApiCaller, path: string, session: string): Promise<unknown> {
  const procedure = path.split('.').reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], api);
  const answer = await (procedure as (input: object) => Promise<unknown>)({ session, ...needs[path] });
  if (typeof answer !== 'object' || answer === null || !(Symbol.asyncIterator in answer)) return answer;
  for await (const first of answer as AsyncIterable<unknown>) return first;
  return undefined;
}

const outcome = (who: UserActor, path: string, session: string): Promise<string> =>
  apiOf(
    world,
    who,
  )((api) => call(api, path, session)).then(
    () => 'done',
    (error: AppError) => error.code,
  );

/** All that is kept of it. */
async function kept(session: string): Promise<unknown> {
  const { db } = world.database;
  const [sessions, kernels, history] = await Promise.all([
    db.execute(sql`select * from sessions where id = ${session}::uuid`),
    db.execute(sql`select to_jsonb(k) - 'last_seen_at' as kernel from kernels k where session_id = ${session}::uuid`),
    db.execute(sql`select * from session_history where session_id = ${session}::uuid order by at`),
  ]);
  return { sessions, kernels, history, lastAccess: await world.liveValues().get(`session:${session}:last-access`) };
}

describe('a session of somebody else', () => {
  it('is not there for anybody who may not see it, by id or by name, whatever is asked, and stays as it is', async () => {
    expect(procedures.length).toBeGreaterThan(20);
    const session = await run(tenants.user, 'seen');
    const before = await kept(session);
    for (const path of procedures)
      for (const who of ['neighbour', 'foreigner', 'foreignAdmin'] as const)
        for (const ref of [session, 'seen'])
          expect([path, who, ref, await outcome(tenants[who], path, ref)]).toEqual([
            path,
            who,
            ref,
            'session-not-found',
          ]);
    expect(await kept(session)).toEqual(before);
  });

  it.each(['owner', 'ownAdmin', 'superadmin'] as const)('is, by its id, at the hands of its %s', async (who) => {
    const { actor: owner } = await addMember(world, 'ours');
    await join(owner);
    for (const path of procedures) {
      const session = await run(owner, `s-${newId()}`);
      expect([path, await outcome({ ...tenants, owner }[who], path, session)]).toEqual([path, 'done']);
      await apiOf(world, owner)((api) => api.session.destroy({ session, forced: true }));
    }
  });
});
