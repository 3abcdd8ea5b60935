import { newId, signRequest } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
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
const field = <T>(common: T) => fc.oneof({ weight: 3, arbitrary: fc.constant(common) }, { weight: 1, arbitrary: text });

const request = fc.record(
  {
    name: fc.oneof(text, fc.uuid()),
    image: field('python'),
    architecture: field('x86_64'),
    type: field('interactive'),
    resources: amounts,
    environ: fc.dictionary(name, fc.oneof(text, fc.string({ minLength: 1, maxLength: 3 })), { maxKeys: 4 }),
    tag: fc.oneof(text, fc.constant('a tag')),
    project: field('default'),
    domain: field('default'),
    resourceGroup: field('default'),
    clusterMode: field('single-node'),
    clusterSize: fc.oneof(fc.constant(1), fc.integer()),
    reuseIfExists: fc.boolean(),
  },
  { requiredKeys: ['name', 'image'] },
);

describe('any text in any field', () => {
  it('of a new session is taken or refused, by REST and by the typed API', async () => {
    await fc.assert(
      fc.asyncProperty(request, async (input) => {
        const { resources, environ, resourceGroup, project: group, ...rest } = input;
        const config = { resources, environ, scaling_group: resourceGroup };
        expectAnswered(await send('POST', '/session', { ...rest, group, config, enqueueOnly: true }));
        expectAnswered(await send('POST', '/rpc/session.create', { json: { ...input, name: `${input.name}2` } }));
      }),
      { numRuns: 150 },
    );
    await runWithRequest({ requestId: newId() }, () => world.manager.services.endAllSessions('user-requested', 20_000));
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
