import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Answer, FakeWorld, TestServer, until } from './http-world.ts';

/** Bytes in and out: the official multipart forms with their limits, and our streams without. */

let world: FakeWorld;
let server: TestServer;

beforeAll(async () => {
  world = new FakeWorld();
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  world.fail = undefined;
  world.calls.length = 0;
  world.logs.length = 0;
  world.stored.clear();
  world.streamIds.clear();
});

function form(files: Record<string, Buffer | string>): { body: Buffer; headers: Record<string, string> } {
  const parts = Object.entries(files).map(([name, content]) =>
    Buffer.concat([
      Buffer.from(
        `--xyz\r\nContent-Type: application/octet-stream\r\nContent-Disposition: form-data; name="src"; filename="${name}"\r\n\r\n`,
      ),
      Buffer.from(content as string),
      Buffer.from('\r\n'),
    ]),
  );
  const body = Buffer.concat([...parts, Buffer.from('--xyz--\r\n')]);
  return { body, headers: { 'content-type': 'multipart/form-data; boundary=xyz' } };
}

const upload = (files: Record<string, Buffer | string>) =>
  server.request('/session/sess/upload', { method: 'POST', ...form(files) });

/** The parts of a multipart/mixed answer. */
function partsOf(answer: Answer): { head: string; body: string }[] {
  const boundary = /boundary=(\S+)/.exec(answer.headers['content-type'] ?? '')?.[1] ?? '';
  return answer.text
    .split(`--${boundary}`)
    .slice(1, -1)
    .map((part) => {
      const [head = '', body = ''] = part.slice(2, -2).split('\r\n\r\n');
      return { head, body };
    });
}

describe('the official forms', () => {
  test('an upload comes back as archives', async () => {
    const answer = await upload({ 'a.txt': 'alpha', 'sub%20dir%2Fb.txt': 'beta', 'plain/c.txt': 'gamma' });
    expect(answer.status).toBe(204);
    expect(answer.headers['x-backend-request-id']).toBeDefined();
    expect([...world.stored.keys()]).toEqual(['a.txt', 'sub dir/b.txt', 'plain/c.txt']);
    expect(world.last('upload').boundId).toBe(answer.headers['x-backend-request-id']);

    const download = await server.request('/session/sess/download', { body: { files: ['a.txt', 'sub dir/b.txt'] } });
    expect(download.status).toBe(200);
    expect(download.headers['content-type']).toMatch(/^multipart\/mixed; boundary=/);
    expect(partsOf(download)).toEqual([
      { head: expect.stringContaining('Content-Encoding: identity'), body: 'tar of a.txt:alpha' },
      { head: expect.any(String), body: 'tar of sub dir/b.txt:beta' },
    ]);
    expect(partsOf(await server.request('/session/sess/download?files=a.txt&files=plain/c.txt'))).toHaveLength(2);
  });

  test.each<[string, Record<string, Buffer | string>, string]>([
    ['a path that leaves', { 'good.txt': 'x', '..%2F..%2Fetc%2Fpasswd': 'x' }, 'invalid-path'],
    ['an absolute path', { '%2Fetc%2Fpasswd': 'x' }, 'invalid-path'],
    ['a NUL', { 'a%00b': 'x' }, 'invalid-path'],
    ['a bad encoding', { 'a%zz': 'x' }, 'invalid-path'],
    ['too large a file', { 'good.txt': 'x', 'big.bin': Buffer.alloc(1024 * 1024 + 1) }, 'invalid-input'],
    ['too many files', Object.fromEntries([...Array(21)].map((_, at) => [`f${at}`, 'x'])), 'invalid-input'],
    ['nothing', {}, 'invalid-input'],
  ])('%s is refused before anything is stored', async (_name, files, code) => {
    const answer = await upload(files);
    expect(answer.status).toBe(400);
    expect(answer.json.error_code).toBe(code);
    expect(world.stored.size).toBe(0);
  });

  test('limits are reached exactly', async () => {
    const files = Object.fromEntries(
      [...Array(20)].map((_, at) => [`f${at}`, at === 0 ? Buffer.alloc(1024 * 1024 - 1) : 'x']),
    );
    expect((await upload(files)).status).toBe(204);
    expect(world.stored.size).toBe(20);
  });

  test('a form that is none, or ends early, is malformed', async () => {
    const plain = await server.request('/session/sess/upload', { method: 'POST', body: 'x' });
    expect(plain.json.error_code).toBe('malformed-body');
    const whole = form({ 'a.txt': 'alpha' });
    const half = await server.request('/session/sess/upload', {
      method: 'POST',
      ...whole,
      body: whole.body.subarray(0, -20),
    });
    expect(half.json.error_code).toBe('malformed-body');
    expect(world.stored.size).toBe(0);
  });

  test('a missing file, too many, too large, outside', async () => {
    world.stored.set('a', Buffer.from('x'));
    world.stored.set('big', randomBytes(3 * 1024 * 1024));
    const get = (files: string[]) => server.request('/session/sess/download', { body: { files } });
    expect((await get(['a', 'none'])).json).toMatchObject({
      type: 'https://api.backend.ai/probs/invalid-api-params',
      msg: 'The file is not found.',
    });
    expect((await get(['a', 'a', 'a', 'a', 'a', 'a'])).json.msg).toBe('Too many files');
    expect((await get(['big'])).json.msg).toBe('Too large file');
    expect((await get(['../../etc/passwd'])).json.error_code).toBe('invalid-path');
    expect((await get([])).status).toBe(400);
  });

  test('one file, and a listing as text in JSON', async () => {
    world.stored.set('a.txt', Buffer.from('alpha'));
    const one = await server.request('/session/sess/download_single?file=/home/work/a.txt');
    expect(one.text).toBe('alpha');
    const listing = await server.request('/session/sess/files', { body: { path: '.' } });
    expect(listing.json).toMatchObject({ errors: '', abspath: '/home/work' });
    expect(JSON.parse(listing.json.files)).toMatchObject([{ filename: 'a.txt', mode: '-rw-r--r--' }]);
    expect((await server.request('/session/sess/files?path=../..')).json.error_code).toBe('invalid-path');
  });
});

describe('streams', () => {
  test('large files pass both ways under one request id', async () => {
    const bytes = randomBytes(12 * 1024 * 1024);
    const headers = { 'X-Request-ID': 'req-up', 'content-type': 'application/octet-stream' };
    const put = await server.request('/session/sess/file?path=data%2Fbig.bin&mode=755', {
      method: 'PUT',
      body: bytes,
      headers,
    });
    expect(put.status).toBe(204);
    expect(put.headers['x-backend-request-id']).toBe('req-up');
    expect(world.last('upload').input).toMatchObject({
      path: 'data/big.bin',
      target: { size: bytes.length, mode: 0o755 },
    });
    expect([...world.streamIds]).toEqual(['req-up']);
    expect(world.stored.get('data/big.bin')?.equals(bytes)).toBe(true);

    world.streamIds.clear();
    const get = await server.request('/session/sess/file?path=data/big.bin', {
      headers: { 'X-Request-ID': 'req-down' },
    });
    expect(get.headers).toMatchObject({
      'content-length': String(bytes.length),
      'content-type': 'application/octet-stream',
      'x-backend-request-id': 'req-down',
    });
    expect(get.bytes.equals(bytes)).toBe(true);
    expect([...world.streamIds]).toEqual(['req-down']);
    const archive = await server.request('/session/sess/archive?path=data/big.bin');
    expect(archive.headers['content-type']).toBe('application/x-tar');
    expect(archive.bytes.length).toBe(bytes.length + 'tar of data/big.bin:'.length);
  });

  test('an empty file', async () => {
    const put = await server.request('/session/sess/file?path=empty', { method: 'PUT', body: '' });
    expect(put.status).toBe(204);
    expect(world.stored.get('empty')?.length).toBe(0);
  });

  test('a length is needed, and a path inside', async () => {
    const headers = { 'content-length': undefined, 'transfer-encoding': 'chunked' };
    const chunked = await server.request('/session/sess/file?path=a', { method: 'PUT', body: 'x', headers });
    expect(chunked.json).toMatchObject({ data: { 'Content-Length': 'is required' } });
    for (const path of ['../x', '/etc/passwd', ''])
      expect(
        (await server.request(`/session/sess/file?path=${path}`, { method: 'PUT', body: 'x' })).json.error_code,
      ).toBe('invalid-path');
    expect((await server.request('/session/sess/file', { method: 'PUT', body: 'x' })).status).toBe(400);
    expect((await server.request('/session/sess/file?path=a&mode=9', { method: 'PUT', body: 'x' })).status).toBe(400);
  });

  test('an upload that fails at once is answered though the client still sends', async () => {
    const { AppError } = await import('@backend.ai/core');
    world.fail = new AppError('session-not-running', 'It does not run.');
    const answer = await server.request('/session/sess/file?path=a', {
      method: 'PUT',
      body: Buffer.alloc(8 * 1024 * 1024),
    });
    expect(answer.status).toBe(400);
    expect(answer.json.error_code).toBe('session-not-running');
  });

  test('a client that breaks off stores nothing', async () => {
    const headers = server.headersFor('/session/sess/file?path=a', {
      method: 'PUT',
      headers: { 'content-length': '1000000' },
    });
    const request = http.request({
      host: '127.0.0.1',
      port: server.port,
      method: 'PUT',
      path: '/session/sess/file?path=a',
      headers,
    });
    request.on('error', () => undefined);
    request.write('only this');
    await until(() => world.calls.some(({ name }) => name === 'upload'), 'the upload');
    request.destroy();
    await until(() => world.logs.some(({ outcome }) => outcome === 'aborted'), 'the end of the request');
    expect(world.last('upload').ctx.signal?.aborted).toBe(true);
    expect(world.stored.size).toBe(0);
  });

  test('a client that reads slowly is not overrun', async () => {
    world.stored.set('big', Buffer.alloc(64 * 1024 * 1024));
    world.bytesServed = 0;
    const response = await server.open('/session/sess/file?path=big');
    response.pause();
    let rests = 0;
    let before = 0;
    await until(() => {
      rests = world.bytesServed === before && before > 0 ? rests + 1 : 0;
      before = world.bytesServed;
      return rests === 10;
    }, 'nothing more is taken from the source');
    // What fits into the buffers of two sockets, and no more.
    expect(world.bytesServed).toBeLessThan(32 * 1024 * 1024);
    let received = 0;
    for await (const chunk of response) received += (chunk as Buffer).length;
    expect(received).toBe(64 * 1024 * 1024);
  });

  test('an upload that stalls is given up', async () => {
    const own = new FakeWorld();
    const strict = await TestServer.start(own, { limits: { stallMs: 100, drainMs: 100 } });
    const headers = strict.headersFor('/session/sess/file?path=a', {
      method: 'PUT',
      headers: { 'content-length': '1000' },
    });
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const answer = await strict.raw(`PUT /session/sess/file?path=a HTTP/1.1\r\n${lines.join('')}\r\nxxx`);
    expect(answer).toMatch(/^HTTP\/1.1 503 [\s\S]*deadline-exceeded/);
    await strict.close();
  });
});
