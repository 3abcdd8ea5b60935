import { type HttpRequest, observations } from '@backend.ai/telemetry';
import { FakeClock } from '@backend.ai/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accessKey, FakeWorld, TestServer, until } from './http-world.ts';

/** What holds for every request, whatever it asks for: ids, headers, signatures, rates, limits, malformed input. */

let world: FakeWorld;
let server: TestServer;

beforeAll(async () => {
  world = new FakeWorld();
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  world.nowMs = Date.now();
  world.rate = { limit: 1000, remaining: 999 };
  world.fail = undefined;
  world.calls.length = 0;
  world.logs.length = 0;
  world.sessions.clear();
});

const idHeader = 'x-backend-request-id';

describe('request ids', () => {
  test.each(['X-Request-ID', 'X-Backend-Request-ID', 'X-BackendAI-RequestID'])('%s is kept', async (name) => {
    world.add('sess');
    const answer = await server.request('/session/sess', { headers: { [name]: 'req-123' } });
    expect(answer.headers[idHeader]).toBe('req-123');
    expect(world.last('inspect')).toMatchObject({ boundId: 'req-123', boundActor: accessKey });
    expect(world.last('inspect').ctx).toMatchObject({ requestId: 'req-123', headers: { request_id: 'req-123' } });
  });

  test('without one, each request gets its own', async () => {
    const [one, two] = await Promise.all([server.request('/'), server.request('/')]);
    expect(one.headers[idHeader]).toMatch(/^[0-9a-f-]{36}$/);
    expect(one.headers[idHeader]).not.toBe(two.headers[idHeader]);
  });

  test.each(['spaces in it', 'x'.repeat(129), 'a<script>'])('an invalid one is replaced and noted: %s', async (id) => {
    const answer = await server.request('/', { headers: { 'X-Request-ID': id } });
    expect(answer.headers[idHeader]).toMatch(/^[0-9a-f-]{36}$/);
    expect(world.logs.find(({ msg }) => msg === 'invalid request id replaced')).toMatchObject({
      request_id: answer.headers[idHeader],
    });
  });

  test.each([
    ['an unknown URL', '/nothing', {}, 404],
    ['another method', '/health', { method: 'POST' }, 405],
    ['a bad URL', '/session/%zz', {}, 400],
    ['a refused signature', '/session/sess', { secret: 'wrong' }, 401],
    ['no login', '/session/sess', { sign: false }, 401],
    ['a malformed body', '/session', { method: 'POST', body: '{' }, 400],
    ['a body too large', '/session', { method: 'POST', body: 'x'.repeat(9 * 1024 * 1024) }, 413],
    ['an unmet expectation', '/', { headers: { Expect: 'wonders' } }, 400],
    ['a preflight', '/session', { method: 'OPTIONS', sign: false }, 204],
    ['an unknown session', '/session/none', {}, 404],
    ['a call to the typed API', '/rpc/session.get?input=%7B%7D', { sign: false }, 401],
    ['an unknown call', '/rpc/nothing', {}, 404],
  ])('%s carries one', async (_name, target, options, status) => {
    const answer = await server.request(target, {
      ...options,
      headers: { 'X-Request-ID': 'req-1', ...('headers' in options ? options.headers : {}) },
    });
    expect(answer.status).toBe(status);
    expect(answer.headers[idHeader]).toBe('req-1');
    expect(answer.headers.server).toBe('BackendAI');
    expect(answer.headers['access-control-allow-origin']).toBe('*');
    expect(answer.headers['x-ratelimit-window']).toBe('900');
    expect(answer.headers['x-ratelimit-limit']).toMatch(/^\d+$/);
    if (status !== 204 && !target.startsWith('/rpc')) {
      expect(answer.headers['content-type']).toBe('application/problem+json');
      expect(answer.json).toMatchObject({
        request_id: 'req-1',
        error_code: expect.any(String),
        hint: expect.any(String),
      });
      expect(answer.json.type).toContain('https://api.backend.ai/probs/');
    }
  });

  test('an unexpected error carries one, is logged, and tells nothing of itself', async () => {
    world.fail = new Error('the database password is 1234');
    const answer = await server.request('/session/sess', { headers: { 'X-Request-ID': 'req-1' } });
    expect(answer.status).toBe(500);
    expect(answer.json).toMatchObject({ error_code: 'internal', request_id: 'req-1' });
    expect(answer.text).not.toMatch(/1234|\.ts/);
    expect(world.logs.find(({ msg }) => msg === 'request failed')).toMatchObject({ request_id: 'req-1' });
  });

  test.each([
    ['no HTTP at all', 'hello\r\n\r\n', 400],
    ['a broken header', 'GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n', 400],
    ['too many headers', `GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(70_000)}\r\n\r\n`, 431],
    ['a proxy request', 'CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\n\r\n', 405],
    ['both lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
  ])('malformed HTTP is refused with one: %s', async (_name, text, status) => {
    const answer = await server.raw(text);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(answer).toMatch(/\r\nX-Backend-Request-ID: [0-9a-f-]{36}\r\n/);
    expect(answer).toMatch(/\r\nContent-Type: application\/problem\+json\r\n/);
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({ request_id: expect.any(String) });
  });

  test('a body that breaks in the middle is refused with the id of its request', async () => {
    const answer = await server.raw(
      'POST / HTTP/1.1\r\nHost: x\r\nX-Request-ID: req-9\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n',
    );
    expect(answer).toContain('X-Backend-Request-ID: req-9');
  });
});

test('each request leaves one access record and is counted once, by its route', async () => {
  world.add('sess');
  const counted: HttpRequest[] = [];
  const stopCounting = observations.httpRequest.subscribe((request) => counted.push(request));
  await server.request('/session/sess?x=secret', { headers: { 'X-Request-ID': 'req-7' } });
  // Those of requests before may still come.
  const handled = () => world.logs.filter((log) => log.msg === 'request handled' && log.request_id === 'req-7');
  await until(() => handled().length > 0, 'an access record');
  const records = handled();
  expect(records).toHaveLength(1);
  expect(records[0]).toMatchObject({
    request_id: 'req-7',
    actor: accessKey,
    method: 'GET',
    path: '/session/sess',
    route: '/session/:session',
    status: 200,
    outcome: 'finished',
  });
  expect(JSON.stringify(records)).not.toContain('secret');
  stopCounting();
  const own = counted.filter(({ route }) => route === '/session/:session');
  expect(own).toEqual([{ method: 'GET', route: '/session/:session', status: 200, ms: expect.any(Number) }]);
});

describe('signatures on a real connection', () => {
  const credential = (signature: string): string =>
    `BackendAI signMethod=HMAC-SHA256, credential=${accessKey}:${signature}`;
  const date = '2023-09-06T01:02:03.456789+00:00';

  beforeEach(() => {
    world.nowMs = Date.parse('2023-09-06T01:02:03.456Z');
  });

  test.each([
    [
      'GET',
      '/session/_/match?id=my-sess&x=1',
      'text/plain',
      '',
      '4a3ca6a42144cb7d615e9ba5e5411f8113ec13d37787641aea09a08661d44e3c',
      200,
    ],
    [
      'POST',
      '/session',
      'application/json',
      '{"name":"sess","image":"python","enqueueOnly":true}',
      '6d48ebf8e3183d8ccd2c00addfb076fa6e93960d58b511e8808cc4984989640a',
      201,
    ],
    [
      'POST',
      '/session/mysess1/upload',
      'multipart/form-data; boundary=xyz',
      '--xyz--\r\n',
      'aa48f56a3fe29beb0c1ae9f05da29dadd0bf8b27444a56738af9fb07610bd351',
      400,
    ],
  ])('vector: %s %s', async (method, target, type, body, signature, status) => {
    const headers = { host: '127.0.0.1:8081', date, 'content-type': type };
    const answer = await server.request(target, {
      method,
      headers: { ...headers, authorization: credential(signature), 'content-length': String(body.length) },
      ...(body === '' ? {} : { body }),
    });
    expect(answer.status).toBe(status);
    const wrong = await server.request(target, {
      method,
      headers: { ...headers, host: '127.0.0.1:8082', authorization: credential(signature), 'content-length': '0' },
    });
    expect(wrong.status).toBe(401);
    expect(wrong.json).toMatchObject({ msg: 'Signature mismatch', error_code: 'auth-bad-signature' });
  });

  test.each([
    ['no Authorization', { sign: false }, 401, 'auth-failed', 'Unauthorized access'],
    [
      'a skewed clock',
      { headers: { date: '2023-09-06T01:30:03+00:00' } },
      400,
      'invalid-auth-params',
      'Date/time sync error',
    ],
    ['no date', { headers: { date: undefined } }, 400, 'invalid-auth-params', 'Date/time sync error'],
    ['another scheme', { headers: { authorization: 'Basic abc' } }, 400, 'invalid-auth-params', undefined],
    ['a wrong secret', { secret: 'wrong' }, 401, 'auth-failed', 'Signature mismatch'],
    [
      'an unknown key',
      { headers: { authorization: credential('00').replace('AKIA', 'AKIB') } },
      401,
      'auth-failed',
      'Access key not found',
    ],
    [
      'an unknown version',
      { headers: { 'x-backendai-version': 'v99.20990101' } },
      400,
      'generic-bad-request',
      undefined,
    ],
  ])('%s', async (_name, options, status, slug, msg) => {
    const answer = await server.request('/auth?echo=hi', options);
    expect(answer.status).toBe(status);
    expect(answer.json.type).toBe(`https://api.backend.ai/probs/${slug}`);
    if (msg !== undefined) expect(answer.json.msg).toBe(msg);
    expect(world.calls).toHaveLength(0);
  });

  test('the method of X-Method-Override is routed and must be the signed one', async () => {
    world.add('sess');
    const headers = { 'X-Method-Override': 'DELETE' };
    const answer = await server.request('/session/sess', { method: 'POST', headers, signed: { method: 'DELETE' } });
    expect(answer.status).toBe(200);
    expect(world.calls.map(({ name }) => name)).toEqual(['destroy']);
    expect((await server.request('/session/sess', { method: 'POST', headers })).status).toBe(401);
  });
});

test('no garbage in headers makes it fail', async () => {
  const text = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    maxLength: 60,
  });
  await fc.assert(
    fc.asyncProperty(text, text, text, async (authorization, date, version) => {
      const headers = {
        authorization: `BackendAI ${authorization}`,
        date,
        'x-backendai-version': version,
        'content-type': version,
      };
      const answer = await server.request('/auth?echo=x', { headers });
      return answer.status === 400 || answer.status === 401;
    }),
    { numRuns: 100 },
  );
});

describe('rates', () => {
  test('what is left is told', async () => {
    world.rate = { limit: 300, remaining: 12 };
    const answer = await server.request('/auth?echo=hi');
    expect(answer.headers).toMatchObject({ 'x-ratelimit-limit': '300', 'x-ratelimit-remaining': '12' });
    expect((await server.request('/')).headers).toMatchObject({
      'x-ratelimit-limit': '1000',
      'x-ratelimit-remaining': '1000',
    });
  });

  test.each(['/auth?echo=hi', '/rpc/auth.whoami'])('more are refused: %s', async (target) => {
    world.rate = { limit: 300, remaining: -1 };
    const answer = await server.request(target);
    expect(answer.status).toBe(429);
    expect(answer.headers['x-ratelimit-remaining']).toBe('0');
    expect(world.calls).toHaveLength(0);
  });

  test('zero is unlimited', async () => {
    world.rate = { limit: 0, remaining: -5 };
    expect((await server.request('/auth?echo=hi')).status).toBe(200);
  });
});

test('the handshake is anonymous and has the official form', async () => {
  const answer = await server.request('/', {
    sign: false,
    headers: { date: undefined, 'x-backendai-version': undefined, 'content-type': undefined },
  });
  expect(answer.status).toBe(200);
  expect(answer.headers['content-type']).toBe('application/json');
  expect(answer.json).toEqual({ version: 'v7.20230615', manager: '1.2.3' });
});

test('health tells liveness and readiness', async () => {
  expect((await server.request('/health', { sign: false })).json).toEqual({ status: 'ok', live: true, ready: true });
  world.health = { live: true, ready: false };
  const answer = await server.request('/health', { sign: false });
  expect(answer.status).toBe(503);
  expect(answer.json).toMatchObject({ live: true, ready: false });
  world.health = { live: true, ready: true };
});

test('browsers may ask from anywhere with any header', async () => {
  const headers = {
    Origin: 'https://ui.example.com',
    'Access-Control-Request-Headers': 'authorization, x-backendai-version',
  };
  const answer = await server.request('/session', { method: 'OPTIONS', sign: false, headers });
  expect(answer.headers['access-control-allow-headers']).toBe('authorization, x-backendai-version');
  expect(answer.headers['access-control-allow-methods']).toContain('DELETE');
  expect(answer.headers['access-control-allow-credentials']).toBeUndefined();
});

test('unknown URLs and methods are told apart', async () => {
  const unknown = await server.request('/session/_/create-cluster');
  expect(unknown.json).toMatchObject({
    type: 'https://api.backend.ai/probs/url-not-found',
    data: '/session/_/create-cluster',
  });
  const method = await server.request('/health', { method: 'PATCH' });
  expect(method.status).toBe(405);
  expect(method.headers.allow).toContain('GET');
});

test('a WebSocket is answered like any other unknown URL', async () => {
  const headers = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13' };
  expect((await server.request('/stream/session/x/elsewhere', { headers })).json.error_code).toBe('route-not-found');
});

describe('behind a reverse proxy', () => {
  let proxied: TestServer;
  beforeAll(async () => {
    proxied = await TestServer.start(world, { pathPrefix: '/api/' });
  });
  afterAll(() => proxied.close());

  test('the prefix may be there or taken away; it is signed', async () => {
    expect(proxied.url).toMatch(/\/api$/);
    expect((await proxied.request('/api/auth?echo=hi')).status).toBe(200);
    expect((await proxied.request('/auth?echo=hi', { signed: { target: '/api/auth?echo=hi' } })).status).toBe(200);
    expect((await proxied.request('/api')).json).toMatchObject({ version: 'v7.20230615' });
    expect((await proxied.request('/rpc/auth.whoami', { signed: { target: '/api/rpc/auth.whoami' } })).status).toBe(
      200,
    );
  });
});

describe('slow and long requests', () => {
  let strict: TestServer;
  beforeAll(async () => {
    strict = await TestServer.start(world, { limits: { headersMs: 200, bodyMs: 200, stallMs: 200 } });
  });
  afterAll(() => strict.close());

  test('a head that trickles in is cut', async () => {
    expect(await strict.raw('GET / HTTP/1.1\r\nHost: x\r\n')).toMatch(/^HTTP\/1.1 408 [\s\S]*X-Backend-Request-ID/);
  });

  test('a body that trickles in is cut', async () => {
    const headers = strict.headersFor('/session', { method: 'POST', body: { name: 'sess' } });
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const answer = await strict.raw(`POST /session HTTP/1.1\r\n${lines.join('')}\r\n{`);
    expect(answer).toMatch(/^HTTP\/1.1 408 [\s\S]*X-Backend-Request-ID/);
    await until(() => world.logs.some(({ outcome }) => outcome === 'aborted'), 'the end of the request');
  });

  test('waiting for a session is not cut', async () => {
    const own = new FakeWorld();
    const clock = new FakeClock();
    own.time = clock;
    const waiting = await TestServer.start(own, { limits: { bodyMs: 200, stallMs: 200 } });
    const answer = waiting.request('/session', { method: 'POST', body: { name: 'patient', image: 'python' } });
    await until(() => own.calls.some(({ name }) => name === 'wait'), 'the wait');
    await clock.advance(60_000);
    own.setStatus(own.find('patient'), 'RUNNING');
    expect((await answer).json).toMatchObject({ status: 'RUNNING' });
    await waiting.close();
  });
});

describe('shutting down', () => {
  test('waiters are answered, others may finish, new ones are refused', async () => {
    const own = new FakeWorld();
    const ending = await TestServer.start(own);
    const waiting = ending.request('/session', { method: 'POST', body: { name: 'patient', image: 'python' } });
    await until(() => own.calls.some(({ name }) => name === 'wait'), 'the wait');
    const closed = ending.server.close(5000);
    expect((await waiting).json).toMatchObject({
      error_code: 'shutting-down',
      data: { sessionId: own.find('patient').id },
    });
    await closed;
    await expect(ending.request('/')).rejects.toThrow(/ECONNREFUSED/);
  });

  test('what does not finish in time is cut', async () => {
    const own = new FakeWorld();
    own.add('sess', 'PENDING');
    const ending = await TestServer.start(own);
    const waiting = ending.request(
      `/rpc/session.wait?input=${encodeURIComponent('{"json":{"session":"sess","until":"running","timeoutMs":60000}}')}`,
    );
    const cut = expect(waiting).rejects.toThrow();
    await until(() => own.calls.some(({ name }) => name === 'wait'), 'the wait');
    await ending.server.close(50);
    await cut;
    expect(own.last('wait').ctx.signal?.aborted).toBe(true);
  });

  test('a port in use is named', async () => {
    const second = new TestServer(world, { port: server.port });
    await expect(second.server.listen()).rejects.toMatchObject({
      code: 'port-in-use',
      message: expect.stringContaining(String(server.port)),
    });
  });
});

test('a caller that goes away aborts its work', async () => {
  const leave = new AbortController();
  const answer = server.request('/session', {
    method: 'POST',
    body: { name: 'patient', image: 'python' },
    signal: leave.signal,
  });
  const gone = expect(answer).rejects.toThrow();
  await until(() => world.calls.some(({ name }) => name === 'wait'), 'the wait');
  leave.abort();
  await gone;
  await until(() => world.last('wait').ctx.signal?.aborted === true, 'the abort');
  await until(() => world.logs.some(({ outcome }) => outcome === 'aborted'), 'the access record');
});

test('a client may ask before it sends its body', async () => {
  const headers = {
    ...server.headersFor('/session/none', { method: 'POST', body: { mode: 'query' } }),
    Expect: '100-continue',
    Connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const admitted = server.raw(`POST /session/none HTTP/1.1\r\n${lines.join('')}\r\n{"mode":"query"}`);
  expect(await admitted).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 400 /);
  const refused = server.raw(
    `POST /session/none HTTP/1.1\r\n${lines.join('').replace('BackendAI', 'Basic')}\r\n{"mode":"query"}`,
  );
  expect(await refused).toMatch(/^HTTP\/1.1 400 /);
});
