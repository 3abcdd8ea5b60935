import { createSessionSchema } from '@backend.ai/contract';
import { type ErrorCode, errorCodes, newId } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { Params } from '../src/http/parameters.ts';
import { problemStatus } from '../src/http/problems.ts';
import { readCreateRequest } from '../src/http/routes/create-session.ts';
import { templateSchema } from '../src/services/session-templates/parse-templates.ts';
import { addMember, apiOf, type Member, signedHeaders } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/**
 * Any JSON value in each field that a new session may have: in those of the schemas, and in all that the server reads of a
 * REST body. The lists of fields are made of the schemas and of that reading, so a new field is tried without anybody's doing.
 */

/** Values for each field; each is sent by each role. */
const valuesPerField = process.env.SOAK ? 40 : 2;

let world: World;
let members: readonly Member[];
/** Ids of all sessions that were made. */
const made = new Set<string>();
const refusals = new Map<ErrorCode, number>();

beforeAll(async () => {
  world = await createWorld({ http: { host: '127.0.0.1', port: 0 } });
  await world.addAgent('i-one', { slots: { cpu: '64', mem: String(64 * 1024 ** 3) } });
  const [admin, user] = [await addMember(world, 'default', 'admin'), await addMember(world, 'default')];
  const users = [admin, user].map(({ actor }) => actor.email);
  await apiOf(world, world.admin)((api) => api.admin.project.addMembers({ project: 'default', users }));
  members = [{ actor: world.admin, secretKey: world.adminSecret }, admin, user];
});
afterAll(() => world.close());

type Path = readonly string[];
const textOf = (path: Path): string => path.join('.');

/** Every place for a value in what the schema describes; of lists and maps one entry. */
function placesOf(schema: z.core.$ZodType): Path[] {
  const below = (name: string, inner: z.core.$ZodType): Path[] => [
    [name],
    ...placesOf(inner).map((path) => [name, ...path]),
  ];
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return placesOf(schema.unwrap());
  if (schema instanceof z.ZodObject)
    return Object.entries<z.core.$ZodType>(schema.shape).flatMap(([name, field]) => below(name, field));
  if (schema instanceof z.ZodRecord) return below('entry', schema.valueType);
  if (schema instanceof z.ZodArray) return below('0', schema.element);
  return [];
}

/** Every name that the server looks for in a REST body, in each spelling; of maps one entry. */
function placesRead(): Path[] {
  const places: Path[] = [];
  const noting = (path: Path, target: Record<string, unknown>): Record<string, unknown> =>
    new Proxy(target, {
      getOwnPropertyDescriptor(_, name) {
        places.push([...path, String(name)]);
        return Reflect.getOwnPropertyDescriptor(target, name);
      },
      ownKeys() {
        places.push([...path, 'entry']);
        return Reflect.ownKeys(target);
      },
    });
  const maps = Object.fromEntries(['resources', 'environ'].map((name) => [name, noting(['config', name], {})]));
  const config = { resourceOpts: noting(['config', 'resourceOpts'], {}), ...maps };
  // What is required stands in the last of its spellings, so that all are looked for.
  const body = { clientSessionToken: 'name', lang: 'python', config: noting(['config'], config) };
  readCreateRequest(new Params(noting([], body)), 0);
  return places;
}

/** Written into the text of a body: JSON has them, and no value of ours does. */
const literals: Readonly<Record<string, string>> = {
  '<beyond all doubles>': '1e999',
  '<a number of many digits>': '9'.repeat(100_000),
  '<a deep list>': `${'['.repeat(50_000)}${']'.repeat(50_000)}`,
  '<a deep object>': `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`,
};
const jsonText = (value: unknown): string =>
  Object.entries(literals).reduce(
    (text, [name, literal]) => text.replaceAll(`"${name}"`, literal),
    JSON.stringify(value),
  );

const oddTexts = [
  ...['', ' ', 'NaN', 'Infinity', '-Infinity', '1e999', 'null', 'undefined', '[object Object]', '0x10', '\u0661', '-1'],
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then', '$ref', 'toJSON', 'default'],
  ...[
    '\0',
    'a\0b',
    '\ud800',
    '\udfff',
    '\u202e',
    '\ufeff',
    'n\u00e4me',
    '\u540d\u524d',
    '\u{1f600}\u{1f600}',
    "'; --",
    '%00',
    '../..',
  ],
  ...['x'.repeat(100_000), '9'.repeat(100_000), '\u{1f600}'.repeat(50_000), '\0'.repeat(100_000)],
  ...[
    'http://127.0.0.1:1/',
    'http://[::1]/',
    'https://a@b/',
    '2099-01-01T00:00:00Z',
    '-000001-01-01',
    '1h',
    '1.5',
    '64m',
  ],
];
const text = fc.oneof(fc.constantFrom(...oddTexts), fc.string({ unit: 'binary' }), fc.uuid());
const number = fc.oneof(
  fc.constantFrom(0, -1, 0.5, -0.5, 1e21, 2 ** 31, 2 ** 53, -(2 ** 63), Number.MAX_VALUE, Number.MIN_VALUE),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
);
const scalar = fc.oneof(fc.constantFrom(null, true, false), text, number, fc.constantFrom(...Object.keys(literals)));
const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: scalar },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 4 }) },
  // As own keys, `__proto__` too.
  { weight: 1, arbitrary: fc.array(fc.tuple(text, scalar), { maxLength: 4 }).map(Object.fromEntries) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) },
  { weight: 1, arbitrary: fc.constant(Array.from({ length: 5_000 }, (_, at) => at)) },
);

/** The document with this value at that place, whatever stood on the way there. */
function withValue(document: unknown, [name, ...rest]: Path, value: unknown): unknown {
  if (name === undefined) return value;
  if (name === '0') return [withValue(undefined, rest, value)];
  const fields = typeof document === 'object' && document !== null ? document : {};
  const before = Object.hasOwn(fields, name) ? (fields as Record<string, unknown>)[name] : undefined;
  return { ...fields, [name]: withValue(before, rest, value) };
}

async function send(member: Member, target: string, body: string): Promise<{ status: number; text: string }> {
  const url = new URL(target, world.manager.addresses.api);
  const answer = await fetch(url, { method: 'POST', headers: signedHeaders(member, 'POST', url), body });
  return { status: answer.status, text: await answer.text() };
}

/** Of all that could be at fault only the caller's request. */
const categories = ['fix-input', 'forbidden', 'not-found', 'conflict'];

function expectRefused(status: number, code: ErrorCode, message: unknown): void {
  const { category } = errorCodes[code] ?? {};
  expect([code, categories.includes(category)]).toEqual([code, true]);
  expect([code, status]).toEqual([code, expect.toSatisfy((found: number) => found >= 400 && found < 500)]);
  expect(message).toEqual(expect.stringMatching(/\S/));
  refusals.set(code, (refusals.get(code) ?? 0) + 1);
}

async function expectEnded(member: Member, session: string): Promise<void> {
  made.add(session);
  const { status, text } = await send(
    member,
    '/rpc/session.destroy',
    JSON.stringify({ json: { session, forced: true } }),
  );
  expect(status, text).toBe(200);
}

/** A session that can be ended, or one refusal in the words of REST. */
async function expectDecidedByRest(member: Member, { status, text }: { status: number; text: string }): Promise<void> {
  const answer = JSON.parse(text);
  if (status === 201) return await expectEnded(member, answer.sessionId);
  expect(status, text).toBe(problemStatus(answer.error_code));
  expectRefused(status, answer.error_code, answer.msg);
}

/** The same in those of the typed API. */
async function expectDecided(member: Member, { status, text }: { status: number; text: string }): Promise<void> {
  const answer = JSON.parse(text);
  if (status === 200) return await expectEnded(member, answer.result.data.json.session.id);
  const { code, category, message } = answer.error.json.data.error;
  expect(category, text).toBe(errorCodes[code as ErrorCode]?.category);
  expectRefused(status, code, message);
}

/** No literals of prototypes: those that JSON makes are fields as any other. */
const unknownFields: Path[] = [['__proto__'], ['constructor'], ['toString'], ['no-such-field']];

/** With one of them a request may wait for its session: not with both. */
const waits = ['enqueueOnly', 'enqueue_only', 'maxWaitSeconds', 'max_wait_seconds'];
const kinds = [{}, { type: 'batch', startupCommand: 'true' }] as const;

type Change = (document: object) => unknown;

/** One field after the other with any value, and now and then another one besides; by each role. */
async function eachField(
  fields: readonly Path[],
  trial: (member: Member, change: Change, kind: object, nth: number) => Promise<void>,
): Promise<void> {
  const others = fields.filter(([name = '']) => !waits.includes(name));
  const second = fc.option(fc.tuple(fc.constantFrom(...others), anyValue), { freq: 4 });
  for (const field of fields) {
    const property = fc.asyncProperty(
      fc.constant(field),
      anyValue,
      second,
      fc.constantFrom(...kinds),
      fc.nat(99),
      async (path, value, other, kind, nth) => {
        const change: Change = (document) => {
          const changed = withValue(document, path, value);
          return other ? withValue(changed, ...other) : changed;
        };
        for (const member of members) await trial(member, change, kind, nth);
      },
    );
    await fc.assert(property, { numRuns: valuesPerField });
  }
}

describe('any JSON value in each field', { timeout: process.env.SOAK ? 3_600_000 : 120_000 }, () => {
  it('of a new session is decided by the typed API', async () => {
    const fields = placesOf(createSessionSchema);
    const known = [...Object.keys(createSessionSchema.shape), 'environ.entry', 'resourceOpts.shmem', 'dependencies.0'];
    expect(fields.map(textOf)).toEqual(expect.arrayContaining(known));
    const envelope: Path[] = [['meta'], ['meta', 'values'], ['meta', 'referentialEqualities'], ['json']];
    const inside = [...fields, ...unknownFields].map((path) => ['json', ...path]);
    await eachField([...inside, ...envelope], async (member, change, kind) => {
      const base = { name: `s-${newId()}`, image: 'python', resources: { cpu: '1' }, project: 'default', ...kind };
      await expectDecided(member, await send(member, '/rpc/session.create', jsonText(change({ json: base }))));
    });
  });

  it('of a new session is decided by REST', async () => {
    const fields = placesRead();
    const known = [
      'session_name',
      'config.mountMap',
      'config.environ.entry',
      'config.resourceOpts.shmem',
      'callbackURL',
    ];
    expect(fields.map(textOf)).toEqual(expect.arrayContaining(known));
    const urls = ['/session', '/sessions', '/session/_/create', '/session/_/create-from-template'] as const;
    const more: Path[] = [['owner_access_key'], ['template_id'], ['template_id', 'entry']];
    await eachField([...fields, ...more, ...unknownFields], async (member, change, kind, nth) => {
      const config = { resources: { cpu: '1' } };
      const base = { name: `s-${newId()}`, image: 'python', group: 'default', enqueueOnly: true, config, ...kind };
      // Who waits for the session by this value waits for a second.
      const body = change({ maxWaitSeconds: 1, ...base });
      await expectDecidedByRest(member, await send(member, urls[nth % urls.length]!, jsonText(body)));
    });
  });

  it('of a template is taken or refused, and so is a session that is made of it', async () => {
    const fields = placesOf(templateSchema);
    expect(fields.map(textOf)).toEqual(expect.arrayContaining(['spec.kernel.run.bootstrap', 'spec.mounts.entry']));
    await eachField([...fields, ...unknownFields], async (member, change, _, nth) => {
      const kernel = { image: 'python' };
      const base = { api_version: '6', kind: 'task_template', metadata: { name: newId() }, spec: { kernel } };
      const document = jsonText(change(base));
      // Some clients send the document as it is.
      const payload = nth % 2 ? document : JSON.stringify(document);
      const stored = await send(member, '/template/session', `{"payload":${payload},"group":"default"}`);
      if (stored.status !== 200) {
        const { error_code: code, msg } = JSON.parse(stored.text);
        return expectRefused(stored.status, code, msg);
      }
      const [{ id }] = JSON.parse(stored.text);
      const asked = { template_id: id, name: `s-${newId()}`, group: 'default', enqueueOnly: true };
      await expectDecidedByRest(member, await send(member, '/session/_/create-from-template', JSON.stringify(asked)));
    });
  });

  it.each([
    [
      'a boolean that is nested deeply',
      '/session',
      { name: 'deep', image: 'python', reuse: '<a deep list>' },
      'reuseIfExists',
    ],
    [
      'a boolean with a text of its own',
      '/session',
      { name: 'own', image: 'python', reuse: { toString: 1 } },
      'reuseIfExists',
    ],
    ['a template that is nested deeply', '/template/session', { payload: ['<a deep list>'] }, 'payload'],
  ])('is refused as a mistake of that field: %s', async (_, url, body, field) => {
    const { status, text } = await send(members[0]!, url, jsonText(body));
    expect([status, JSON.parse(text)]).toMatchObject([
      400,
      { error_code: 'invalid-input', data: { [field]: expect.any(String) } },
    ]);
  });

  it('leaves nothing behind where it was refused, and nothing held where it was taken', async () => {
    expect(made.size).toBeGreaterThan(0);
    expect(refusals.size).toBeGreaterThan(1);
    const live = sql`select id from sessions where status not in ('TERMINATED', 'CANCELLED', 'ERROR')`;
    await waitFor(async () => (await world.database.db.execute(live)).length === 0, { what: 'all have ended' });
    const sessions = await world.database.db.execute<{ id: string }>(sql`select id from sessions`);
    expect(new Set(sessions.map(({ id }) => id))).toEqual(made);
    const [rows] = await world.database.db.execute<Record<string, number>>(sql`
      select (select sum(cluster_size)::int from sessions) as asked, (select count(*)::int from kernels) as kernels,
        (select count(*)::int from resource_allocations where free_at is null) as held`);
    expect(rows).toEqual({ asked: expect.any(Number), kernels: rows?.asked, held: 0 });
    expect(await world.manager.services.verifyLedger()).toEqual([]);
  });
});
