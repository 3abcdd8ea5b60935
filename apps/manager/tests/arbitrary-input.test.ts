import { newId, signRequest } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FakeAgent } from './fake-agent.ts';
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

async function send(method: 'GET' | 'POST' | 'DELETE', target: string, body?: unknown): Promise<[number, string]> {
  const url = new URL(target, world.manager.addresses.api);
  const date = new Date().toISOString();
  const [version, contentType] = ['v7.20230615', 'application/json'];
  const day = date.slice(0, 10).replaceAll('-', '');
  const signed = { method, target: url.pathname + url.search, date, day, host: url.host, contentType, version };
  const signature = signRequest(world.adminSecret, signed);
  const answer = await fetch(url, {
    method,
    headers: {
      authorization: `BackendAI signMethod=HMAC-SHA256, credential=${world.admin.accessKey}:${signature}`,
      'content-type': contentType,
      'x-backendai-version': version,
      'x-backendai-date': date,
    },
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

const request = fc.record(
  {
    name: usually(fc.uuid(), text),
    image: field('python'),
    architecture: field('x86_64'),
    type: usually(fc.constantFrom('interactive', 'inference', 'system'), fc.oneof(text, fc.constant('batch'))),
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
    dependencies: usually(fc.constant([]), fc.array(fc.oneof(text, fc.uuid()), { maxLength: 3 })),
    startupCommand: usually(fc.constant(null), text),
    startsAt: usually(fc.constant(null), text),
    timeoutMs: usually(fc.constant(null), fc.double()),
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
  },
  { requiredKeys: ['name', 'image'] },
);

describe('any text in any field', () => {
  it('of a new session is taken or refused, by REST and by the typed API', async () => {
    await fc.assert(
      fc.asyncProperty(request, async (input) => {
        const { resources, environ, resourceGroup, project: group, ...rest } = input;
        const { shmem, preopenPorts, designatedAgents, startsAt, timeoutMs, jobPriority, ...common } = rest;
        const config = {
          ...{ resources, environ, scaling_group: resourceGroup, resource_opts: { shmem } },
          ...{ preopen_ports: preopenPorts, agent_list: designatedAgents },
        };
        const times = { starts_at: startsAt, batch_timeout: timeoutMs, job_priority: jobPriority };
        expectDecided(await send('POST', '/session', { ...common, ...times, group, config, enqueueOnly: true }));
        const json = { ...input, name: `${input.name}2`, resourceOpts: { shmem } };
        Reflect.deleteProperty(json, 'shmem');
        expectDecided(await send('POST', '/rpc/session.create', { json }));
      }),
      { numRuns: 150 },
    );
    const [rows] = await world.database.db.execute<{ sessions: number; asked: number; kernels: number }>(sql`
      select (select count(*)::int from sessions) as sessions, (select coalesce(sum(cluster_size), 0)::int from sessions) as asked,
        (select count(*)::int from kernels) as kernels`);
    expect(rows).toMatchObject({ sessions: created, kernels: rows?.asked });
    expect(Math.min(created, refused)).toBeGreaterThan(0);
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
