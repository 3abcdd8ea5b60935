import { newId } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
import { signedHeaders } from './tenancy-world.ts';
import { createWorld, type World } from './world.ts';

/** Whatever stands in a field, the answer is the caller's mistake or a session, never a failure of the server. */

let world: World;
let agent: FakeAgent;
beforeAll(async () => {
  world = await createWorld({ http: { host: '127.0.0.1', port: 0 } });
  agent = await world.addAgent('i-one');
  agent.behaviour = 'stall';
});
afterAll(() => world.close());

async function send(
  method: 'GET' | 'POST' | 'PUT' | 'DELETE',
  target: string,
  body?: unknown,
): Promise<[number, string]> {
  const url = new URL(target, world.manager.addresses.api);
  const answer = await fetch(url, {
    method,
    headers: signedHeaders({ actor: world.admin, secretKey: world.adminSecret }, method, url),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return [answer.status, await answer.text()];
}

const expectAnswered = ([status, text]: [number, string]): void => expect(status, text).toBeLessThan(500);

/** A session, or a refusal that names the field and leaves nothing behind. */
function expectDecided([status, text]: [number, string]): void {
  expectAnswered([status, text]);
  const answer = JSON.parse(text);
  if (status < 300) {
    if (answer.created ?? answer.result.data.json.created) created += 1;
    return;
  }
  const fields = answer.data ?? answer.error?.json?.data?.error?.data?.fields;
  const code = answer.error_code ?? answer.error?.json?.data?.error?.code;
  // Its name is taken: nothing is wrong with any field.
  if (code !== 'session-exists' && code !== 'state-conflict')
    expect(Object.keys(fields ?? {}), text).not.toHaveLength(0);
  refused += 1;
}
let refused = 0;
let created = 0;

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 80 }),
  fc.string({ unit: 'grapheme', maxLength: 300 }),
  fc
    .tuple(fc.string(), fc.constantFrom('\0', '\ud800', '\udc00', '\\u0000', "'", '%', '\u202e'), fc.string())
    .map((parts) => parts.join('')),
  fc.constantFrom('', 'default', 'python', '__proto__', 'constructor', '9'.repeat(400), '1e999', '-1', '0.0001'),
);
const name = fc.oneof(text, fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,9}$/));
const amounts = fc.dictionary(
  fc.oneof(name, fc.constantFrom('cpu', 'mem')),
  fc.oneof(text, fc.integer(), fc.double(), fc.constantFrom('1', '64m')),
  { maxKeys: 4 },
);
/** Mostly what is right: a request is to have one or two things that are not. */
const usually = <T, U>(right: fc.Arbitrary<T>, any: fc.Arbitrary<U>) =>
  fc.oneof({ weight: 19, arbitrary: right }, { weight: 1, arbitrary: any as fc.Arbitrary<T | U> });
const field = <T>(common: T) => usually(fc.constant(common), text);
const whole = usually(fc.integer({ min: 0, max: 100 }), fc.integer());

/** Nobody waits: the answer comes with the queue. */
const waits = usually(fc.integer({ min: 0, max: 60 }), fc.oneof(text, fc.double(), fc.boolean(), fc.constant(null)));
const arrays = fc.array(fc.oneof(text, fc.integer()), { maxLength: 3 });

const anySession = {
  name: usually(fc.uuid(), text),
  image: field('python'),
  architecture: field('x86_64'),
  resources: usually(fc.constant({ cpu: '1', mem: '256m' }), amounts),
  environ: usually(
    fc.dictionary(fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,9}$/), fc.string(), { maxKeys: 4 }),
    fc.dictionary(name, text, { maxKeys: 4 }),
  ),
  tag: usually(fc.constant('a tag'), text),
  project: field('default'),
  domain: field('default'),
  resourceGroup: field('default'),
  clusterMode: field('single-node'),
  clusterSize: usually(fc.constantFrom(1, 2), fc.integer()),
  reuseIfExists: fc.boolean(),
  priority: whole,
  jobPriority: whole,
  isPreemptible: fc.boolean(),
  failurePolicy: usually(fc.constantFrom('strict', 'tolerant'), text),
  dependencies: usually(fc.constant([]), fc.array(fc.oneof(text, fc.uuid()), { maxLength: 3 })),
  bootstrapScript: usually(fc.constant('id'), text),
  callbackUrl: usually(
    fc.constant(null),
    fc.oneof(text, fc.constantFrom('http://127.0.0.1/', 'http://[::1]/', 'http://10.2.3/', 'ftp://x/')),
  ),
  preopenPorts: usually(
    fc.uniqueArray(fc.integer({ min: 1024, max: 65_535 }), { maxLength: 3 }),
    fc.array(fc.integer(), { maxLength: 3 }),
  ),
  shmem: usually(fc.constant('64m'), text),
  designatedAgents: usually(fc.constantFrom([], ['i-one']), fc.array(text, { maxLength: 2 })),
};
const digits = (count: number, most: number): fc.Arbitrary<string> =>
  fc.nat(most).map((number) => String(number).padStart(count, '0'));
const day = fc.integer({ min: 1, max: 28 }).map((number) => String(number).padStart(2, '0'));
/** As the standard writes them, in all the forms that it has. */
const moment = fc
  .tuple(
    usually(fc.integer({ min: 1970, max: 2099 }).map(String), digits(4, 9999)),
    fc.tuple(day, digits(2, 23), digits(2, 59), digits(2, 59)),
    usually(fc.constant(''), fc.stringMatching(/^\.[0-9]{1,80}$/)),
    usually(
      fc.constant('Z'),
      fc
        .tuple(fc.constantFrom('+', '-'), digits(2, 23), digits(2, 59))
        .map(([sign, hours, minutes]) => `${sign}${hours}:${minutes}`),
    ),
  )
  .map(([year, [date, ...time], fraction, distance]) => `${year}-02-${date}T${time.join(':')}${fraction}${distance}`);
const notABatch = fc.record(
  {
    ...anySession,
    type: usually(fc.constantFrom('interactive', 'inference', 'system'), fc.oneof(text, fc.constant('batch'))),
    startupCommand: usually(fc.constant(null), text),
    startsAt: usually(fc.constant(null), text),
    timeoutMs: usually(fc.constant(null), fc.double()),
  },
  { requiredKeys: ['name', 'image'] },
);
const batch = fc.record(
  {
    ...anySession,
    type: fc.constant('batch'),
    startupCommand: usually(fc.constant('make'), text),
    startsAt: usually(fc.oneof(fc.constant(null), moment), text),
    timeoutMs: usually(fc.constantFrom(null, 60_000), fc.double()),
  },
  { requiredKeys: ['name', 'image', 'type', 'startupCommand'] },
);
const request = fc.oneof({ weight: 2, arbitrary: notABatch }, { weight: 1, arbitrary: batch });

/** All spellings of the REST fields, below `config` and beside it. */
const spellings: Readonly<Record<string, readonly string[]>> = {
  name: ['name', 'session_name', 'clientSessionToken'],
  image: ['image', 'lang'],
  architecture: ['architecture', 'arch'],
  type: ['type', 'sessionType'],
  project: ['group', 'groupName', 'group_name'],
  domain: ['domain', 'domainName', 'domain_name'],
  clusterSize: ['clusterSize', 'cluster_size'],
  clusterMode: ['clusterMode', 'cluster_mode'],
  reuseIfExists: ['reuseIfExists', 'reuse_if_exists', 'reuse'],
  jobPriority: ['job_priority', 'jobPriority'],
  isPreemptible: ['is_preemptible', 'isPreemptible'],
  startupCommand: ['startupCommand', 'startup_command'],
  startsAt: ['starts_at', 'startsAt'],
  timeoutMs: ['batch_timeout', 'batchTimeout'],
  bootstrapScript: ['bootstrap_script', 'bootstrapScript'],
  callbackUrl: ['callback_url', 'callbackUrl', 'callbackURL'],
  maxWait: ['maxWaitSeconds', 'max_wait_seconds'],
};
const spellingsOfConfig: Readonly<Record<string, readonly string[]>> = {
  resources: ['resources'],
  environ: ['environ'],
  resourceGroup: ['scaling_group', 'scalingGroup'],
  resourceOpts: ['resource_opts', 'resourceOpts'],
  preopenPorts: ['preopen_ports', 'preopenPorts'],
  designatedAgents: ['agent_list', 'agentList'],
};

/** The same in the words of REST, each field in one of its spellings. */
function officialBody({ shmem, ...fields }: Record<string, unknown>, spelling: number): Record<string, unknown> {
  const body: Record<string, unknown> = { enqueueOnly: true };
  const config: Record<string, unknown> = {};
  const spelled = (names: readonly string[]): string => names[spelling % names.length] as string;
  // It has no such field.
  Reflect.deleteProperty(fields, 'failurePolicy');
  for (const [name, value] of Object.entries({ ...fields, resourceOpts: { shmem } })) {
    const ofConfig = spellingsOfConfig[name];
    if (ofConfig) config[spelled(ofConfig)] = value;
    else body[spelled(spellings[name] ?? [name])] = value;
  }
  return { ...body, config };
}

/** In the form of the original, with one or two things wrong. */
const template = fc.record(
  {
    api_version: field('6'),
    kind: usually(fc.constant('task_template'), text),
    metadata: fc.record({ name: usually(fc.uuid(), text), tag: usually(fc.constant('t'), text) }),
    spec: fc.record(
      {
        session_type: usually(fc.constantFrom('interactive', 'batch'), text),
        kernel: fc.record(
          {
            image: field('python'),
            architecture: field('x86_64'),
            environ: usually(fc.constant({ A: 'b' }), fc.dictionary(name, text, { maxKeys: 3 })),
            run: usually(fc.constant({ bootstrap: 'id', startup_command: 'make' }), fc.dictionary(name, text)),
            git: usually(fc.constant(null), text),
          },
          { requiredKeys: ['image'] },
        ),
        scaling_group: field('default'),
        mounts: usually(fc.constant({}), fc.dictionary(name, text, { maxKeys: 2 })),
        resources: usually(fc.constant({ cpu: '1' }), amounts),
        agent_list: usually(fc.constant([]), arrays),
      },
      { requiredKeys: ['kernel'] },
    ),
  },
  { requiredKeys: ['api_version', 'kind', 'metadata', 'spec'] },
);
const payload = fc.oneof(
  { weight: 8, arbitrary: template.map((each) => JSON.stringify(each)) },
  { weight: 1, arbitrary: fc.array(template, { maxLength: 3 }).map((list) => JSON.stringify(list)) },
  { weight: 1, arbitrary: fc.oneof(text, fc.constantFrom('{', '- - -', '&a [*a]', 'a: &a {b: *a}', '!!set {a, b}')) },
);

describe('any text in any field', () => {
  it('of a new session is taken or refused, by REST and by the typed API', async () => {
    await fc.assert(
      fc.asyncProperty(request, waits, fc.nat(5), async (input, maxWait, spelling) => {
        const { shmem, timeoutMs, ...rest } = input;
        const seconds = typeof timeoutMs === 'number' ? timeoutMs / 1_000 : timeoutMs;
        const official = { ...input, timeoutMs: seconds, maxWait };
        expectDecided(await send('POST', '/session', officialBody(official, spelling)));
        const json = { ...rest, timeoutMs, name: `${input.name}2`, resourceOpts: { shmem } };
        expectDecided(await send('POST', '/rpc/session.create', { json }));
      }),
      { numRuns: 150 },
    );
    const [rows] = await world.database.db.execute<Record<'sessions' | 'asked' | 'kernels' | 'jobs', number>>(sql`
      select (select count(*)::int from sessions) as sessions, (select coalesce(sum(cluster_size), 0)::int from sessions) as asked,
        (select count(*)::int from kernels) as kernels, (select count(*)::int from sessions where type = 'batch') as jobs`);
    expect(rows).toMatchObject({ sessions: created, kernels: rows?.asked });
    expect(Math.min(created - (rows?.jobs ?? 0), rows?.jobs ?? 0, refused)).toBeGreaterThan(0);
    await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  }, 120_000);

  it.each([
    ['a year that databases do not have', '0000-01-01T00:00:00Z', 400],
    ['a year after all that dates know', '9999-01-01T00:00:00Z', 400],
    ['a year long ago', '0001-01-01T00:00:00Z', 200],
    ['a distance to UTC that databases do not take', '2099-01-01T00:00:00+23:59', 200],
    ['more digits than anybody needs', `2099-01-01T00:00:00.${'1'.repeat(90)}Z`, 200],
  ])('that is %s is a moment or a mistake: %s', async (_, startsAt, expected) => {
    const job = { image: 'python', type: 'batch', startupCommand: 'true', startsAt };
    const [status, answer] = await send('POST', '/rpc/session.create', { json: job });
    expect(status, answer).toBe(expected);
    if (status === 200) created += 1;
    const from = encodeURIComponent(JSON.stringify({ json: { from: startsAt, to: '2100-01-01T00:00:00Z' } }));
    expectAnswered(await send('GET', `/rpc/usage.report?input=${from}`));
  });

  it('of a template is taken or refused, and so is a session that is made of it', async () => {
    let stored = 0;
    await fc.assert(
      fc.asyncProperty(payload, payload, request, fc.nat(5), async (first, second, given, spelling) => {
        const [status, body] = await send('POST', '/template/session', { payload: first, group: 'default' });
        expectAnswered([status, body]);
        expectAnswered(await send('POST', '/rpc/sessionTemplate.create', { json: { payload: first } }));
        if (status >= 300) return;
        const [{ id }] = JSON.parse(body);
        stored += 1;
        const { image: _, ...others } = given;
        const asked = { ...officialBody(others, spelling), template_id: id };
        expectAnswered(await send('POST', '/session/_/create-from-template', asked));
        expectAnswered(await send('PUT', `/template/session/${id}`, { payload: second }));
        expectAnswered(await send('GET', `/template/session/${id}`));
        expectAnswered(await send('POST', '/session/_/create-from-template', asked));
        expectAnswered(await send('DELETE', `/template/session/${id}`));
      }),
      { numRuns: 60 },
    );
    expect(stored).toBeGreaterThan(0);
    await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 60_000));
  }, 120_000);

  it('of a call about a session is answered', async () => {
    const { id } = await world.create();
    await fc.assert(
      fc.asyncProperty(text, fc.boolean(), async (ref, byName) => {
        const session = byName ? ref : id;
        const rpc = (path: string, input: object) => send('POST', `/rpc/session.${path}`, { json: input });
        expectAnswered(await rpc('destroy', { session: ref }));
        expectAnswered(await rpc('interrupt', { session: ref }));
        expectAnswered(await rpc('execute', { session, mode: 'query', runId: ref, code: ref, holdMs: 0, flushMs: 0 }));
        expectAnswered(await rpc('listFiles', { session, path: ref }));
        expectAnswered(
          await send('POST', `/session/${id}`, { mode: ref, runId: ref, code: ref, options: { exec: ref } }),
        );
        if (Buffer.from(ref).toString() !== ref) return;
        const encoded = encodeURIComponent(ref);
        for (const call of [`${encoded}/logs`, `${encoded}/status-history`, `${id}/files?path=${encoded}`]) {
          expectAnswered(await send('GET', `/session/${call}`));
        }
        expectAnswered(await send('DELETE', `/session/${encoded}`));
      }),
      { numRuns: 60 },
    );
  }, 120_000);
});

describe('an agent that tells of a failure in any words', () => {
  it('is heard, and its later events, too', async () => {
    agent.failure = 'It said: \0 and \ud800.';
    agent.behaviour = 'fail';
    const { id } = await world.create();
    const { reason } = await world.until(id, 'ERROR');
    expect(reason.data).toMatchObject({ error: { message: 'It said: \ufffd and \ufffd.' } });
    await waitFor(() => agent.outbox.length === 0, { what: 'everything is acknowledged' });
  });
});
