import { AppError, ownerAccessKeyHeader } from '@backend.ai/core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accessKey, FakeWorld, otherKey, TestServer, until } from './http-world.ts';

/** The typed API over HTTP as its links send it: single, batch and event streams. */

let world: FakeWorld;
let server: TestServer;

beforeAll(async () => {
  world = new FakeWorld();
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  world.fail = undefined;
  world.rate = { limit: 1000, remaining: 999 };
  world.calls.length = 0;
  world.counted = 0;
  world.sessions.clear();
});

const query = (input: unknown): string => encodeURIComponent(JSON.stringify({ json: input }));

describe('calls', () => {
  test('a query by GET', async () => {
    world.add('sess');
    const target = `/rpc/session.get?input=${query({ session: 'sess' })}`;
    const answer = await server.request(target, { headers: { 'X-Request-ID': 'req-1' } });
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toMatch(/^application\/json/);
    expect(answer.headers['x-backend-request-id']).toBe('req-1');
    expect(answer.json.result.data.json).toMatchObject({ name: 'sess', status: 'RUNNING' });
    expect(world.last('get')).toMatchObject({
      boundId: 'req-1',
      boundActor: accessKey,
      ctx: { requestId: 'req-1', actor: { kind: 'user', accessKey }, headers: { request_id: 'req-1' } },
    });
  });

  test('a query with long input by POST', async () => {
    const body = { json: { session: 'sess', code: 'x'.repeat(200_000) } };
    const answer = await server.request('/rpc/session.complete', { method: 'POST', body });
    expect(answer.json.result.data.json).toEqual({ completions: ['print'] });
  });

  test('a mutation by POST, never by GET', async () => {
    world.add('sess');
    const body = { json: { session: 'sess' } };
    expect((await server.request('/rpc/session.destroy', { method: 'POST', body })).status).toBe(200);
    const wrong = await server.request(`/rpc/session.destroy?input=${query({ session: 'sess' })}`);
    expect(wrong.status).toBe(405);
    expect(wrong.json.error.json.data.error.code).toBe('method-not-allowed');
  });

  test('a header says for whose owner a call is made, and only who may act for others is heard', async () => {
    world.add('sess');
    const target = `/rpc/session.get?input=${query({ session: 'sess' })}`;
    const ask = (owner: string) => server.request(target, { headers: { [ownerAccessKeyHeader]: owner } });
    expect((await ask(otherKey)).status).toBe(200);
    expect(world.last('get').ctx.actor).toMatchObject({ accessKey: otherKey, by: { accessKey } });
    const refused = await ask('AKIAUNKNOWN');
    expect(refused.status).toBe(403);
    expect(refused.json.error.json.data.error.code).toBe('impersonation-forbidden');
  });

  test('a batch has one request id, and one status only when all agree', async () => {
    world.add('sess');
    const input = encodeURIComponent(
      JSON.stringify({ 0: { json: { session: 'sess' } }, 1: { json: { session: 'sess' } } }),
    );
    const answer = await server.request(`/rpc/session.get,session.logs?batch=1&input=${input}`);
    expect(answer.status).toBe(200);
    expect(answer.json).toHaveLength(2);
    expect(new Set(world.calls.map(({ boundId }) => boundId)).size).toBe(1);
    expect(world.counted).toBe(2);
    const mixed = encodeURIComponent(
      JSON.stringify({ 0: { json: { session: 'none' } }, 1: { json: { session: 'sess' } } }),
    );
    const partly = await server.request(`/rpc/session.get,session.logs?batch=1&input=${mixed}`);
    expect(partly.status).toBe(207);
    expect(partly.json[0].error.json.data.error).toMatchObject({ code: 'session-not-found' });
    expect(partly.json[1].result.data.json).toEqual({ logs: 'some output' });
  });

  test.each([
    ['no login', { sign: false }, 401, 'auth-missing'],
    ['a wrong signature', { secret: 'wrong' }, 401, 'auth-bad-signature'],
    ['a skewed clock', { headers: { date: '2020-01-01T00:00:00Z' } }, 400, 'auth-clock-skew'],
  ])('%s is refused in its own form', async (_name, options, status, code) => {
    const answer = await server.request('/rpc/auth.whoami', {
      ...options,
      headers: { ...('headers' in options ? options.headers : {}), 'X-Request-ID': 'req-1' },
    });
    expect(answer.status).toBe(status);
    expect(answer.json.error.json.data.error).toMatchObject({ code, requestId: 'req-1', hint: expect.any(String) });
    const posted = await server.request('/rpc/session.create', {
      method: 'POST',
      body: { json: { image: 'python' } },
      ...options,
    });
    expect(posted.status).toBe(status);
    expect(posted.json.error.json.data.error.code).toBe(code);
    const batch = await server.request('/rpc/auth.whoami,cluster.status?batch=1&input=%7B%7D', options);
    expect(batch.status).toBe(status);
    expect(batch.json).toHaveLength(2);
    expect(world.calls).toHaveLength(0);
  });

  test('bad input, unknown procedures and failures have our codes', async () => {
    const bad = await server.request('/rpc/session.get?input=%7B%7D');
    expect(bad.status).toBe(400);
    expect(bad.json.error.json.data.error.code).toBe('invalid-input');
    const unknown = await server.request('/rpc/nothing.here');
    expect(unknown.status).toBe(404);
    expect(unknown.json.error.json.data.error.code).toBe('route-not-found');
    const garbage = await server.request('/rpc/session.get', { method: 'POST', body: '{{' });
    expect(garbage.status).toBe(400);
    world.fail = new Error('private');
    const failed = await server.request('/rpc/auth.whoami');
    expect(failed.status).toBe(500);
    expect(failed.json.error.json.data.error).toMatchObject({ code: 'internal' });
    expect(failed.text).not.toMatch(/private|\.ts/);
    world.fail = new AppError('session-exists', 'It exists.');
    expect(
      (await server.request('/rpc/session.create', { method: 'POST', body: { json: { image: 'x' } } })).status,
    ).toBe(400);
  });

  test('two at once on one connection keep their own ids', async () => {
    const ids = [...Array(50)].map((_, at) => `req-${at}`);
    await Promise.all(ids.map((id) => server.request('/rpc/auth.whoami', { headers: { 'X-Request-ID': id } })));
    const seen = world.calls.map(({ boundId, ctx }) => [boundId, ctx.requestId]);
    expect(seen.every(([bound, id]) => bound === id)).toBe(true);
    expect(new Set(seen.map(([bound]) => bound)).size).toBe(50);
  });
});

describe('subscriptions', () => {
  const target = `/rpc/session.watch?input=${query({ session: 'sess' })}`;
  const headers = { accept: 'text/event-stream', 'content-type': undefined, 'content-length': undefined };

  test('each change is an event, until the end', async () => {
    const session = world.add('sess', 'PENDING');
    const response = await server.open(target, { headers: { ...headers, 'X-Request-ID': 'req-sse' } });
    expect(response.statusCode).toBe(200);
    expect(response.headers['content-type']).toMatch(/^text\/event-stream/);
    expect(response.headers['x-backend-request-id']).toBe('req-sse');
    let text = '';
    response.on('data', (chunk) => {
      text += chunk;
    });
    await until(() => text.includes('"PENDING"'), 'the first event');
    world.setStatus(session, 'RUNNING');
    await until(() => text.includes('"RUNNING"'), 'the second event');
    world.setStatus(session, 'TERMINATED');
    await until(() => response.complete, 'the end');
    const statuses = text.split('\n').flatMap((line) => /"status":"([A-Z]+)"/.exec(line)?.[1] ?? []);
    expect(statuses).toEqual(['PENDING', 'RUNNING', 'TERMINATED']);
    expect(world.last('watch').boundId).toBe('req-sse');
  });

  test('leaving aborts the watch', async () => {
    world.add('sess');
    const response = await server.open(target, { headers });
    await new Promise((resolve) => response.once('data', resolve));
    response.destroy();
    await until(() => world.last('watch').ctx.signal?.aborted === true, 'the abort');
  });

  test.each([
    ['no login', { sign: false }, 401],
    ['a wrong signature', { secret: 'wrong' }, 401],
  ])('%s is refused before the stream begins', async (_name, options, status) => {
    const answer = await server.request(target, { ...options, headers });
    expect(answer.status).toBe(status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(world.calls).toHaveLength(0);
  });

  test('it ends when the server does', async () => {
    const own = new FakeWorld();
    own.add('sess');
    const ending = await TestServer.start(own);
    const response = await ending.open(target, { headers });
    response.on('error', () => undefined);
    const ended = new Promise((resolve) => response.once('close', resolve));
    await new Promise((resolve) => response.once('data', resolve));
    expect(own.last('watch').ctx.signal?.aborted).toBe(false);
    // Without end: a watch that were let finish would hold up the test.
    await ending.server.close(2 ** 31 - 1);
    await ended;
    expect(own.last('watch').ctx.signal?.aborted).toBe(true);
  });
});
