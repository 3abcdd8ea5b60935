import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError, type ErrorCode, signRequest } from '@backend.ai/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Client, createClient } from './client.ts';
import { authHeaders } from './credentials.ts';
import { nodeFetch } from './node-fetch.ts';
import { errorOfResponse } from './response-error.ts';
import type { Session } from './session.ts';
import { type FakeApi, type Program, startFakeApi } from './testing/index.ts';

const program: Program = async (code, io) => {
  if (code === 'count') for (let i = 0; i < 40; i++) io.print(`${i}\n`);
  if (code === 'echo') {
    for (let line = await io.read(); line !== null; line = await io.read()) io.print(`<${line}>`);
  }
  if (code === 'forever') await new Promise((resolve) => io.interrupted.addEventListener('abort', resolve));
  if (code === 'memory') {
    io.print('half', 'stderr');
    io.notice(new AppError('out-of-memory', 'It used more than 64m.').toBody());
    return 137;
  }
  return code === 'fail' ? 3 : 0;
};

let api: FakeApi;
let client: Client;
let folder: string;

beforeEach(async () => {
  api = await startFakeApi({ program });
  client = createClient({ endpoint: api.endpoint, ...api.credentials });
  folder = await mkdtemp(join(tmpdir(), 'client-'));
});
afterEach(async () => {
  await api[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

async function codeOf(promise: Promise<unknown>): Promise<ErrorCode> {
  const error = await promise.then(
    () => undefined,
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  return (error as AppError).code;
}

describe('signing', () => {
  it('makes the headers whose signature is that of the reference algorithm', () => {
    const now = new Date('2023-09-06T01:02:03.456Z');
    const headers = authHeaders(
      { accessKey: 'AK', secretKey: 'SK' },
      { method: 'POST', url: new URL('http://127.0.0.1:8081/session?x=%20'), contentType: 'application/json', now },
    );
    const signature = signRequest('SK', {
      method: 'POST',
      target: '/session?x=%20',
      date: '2023-09-06T01:02:03.456Z',
      day: '20230906',
      host: '127.0.0.1:8081',
      contentType: 'application/json',
      version: 'v7.20230615',
    });
    expect(headers.authorization).toBe(`BackendAI signMethod=HMAC-SHA256, credential=AK:${signature}`);
  });

  it.each([
    [
      'GET',
      '/session/_/match?id=my-sess&x=1',
      'text/plain',
      '4a3ca6a42144cb7d615e9ba5e5411f8113ec13d37787641aea09a08661d44e3c',
    ],
    ['POST', '/session', 'application/json', '6d48ebf8e3183d8ccd2c00addfb076fa6e93960d58b511e8808cc4984989640a'],
    [
      'GET',
      '/stream/session/mysess1/tcpproxy?app=jupyter&arguments=%7B%22--x%22:+%221%22%7D',
      'application/octet-stream',
      '3387e24a4b41864a5dcb3d85ea3806954c03ad1950eafd1c514bfb0f63ac5c1d',
    ],
    [
      'POST',
      '/session/mysess1/upload',
      'multipart/form-data',
      'aa48f56a3fe29beb0c1ae9f05da29dadd0bf8b27444a56738af9fb07610bd351',
    ],
  ])('agrees with the published vector for %s %s', (method, target, contentType, signature) => {
    const parts = {
      method,
      target,
      contentType,
      date: '2023-09-06T01:02:03.456789+00:00',
      day: '20230906',
      host: '127.0.0.1:8081',
      version: 'v7.20230615',
    };
    expect(signRequest('wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', parts)).toBe(signature);
    // What a URL makes of the target must be what is signed.
    expect(new URL(`http://h${target}`).pathname + new URL(`http://h${target}`).search).toBe(target);
  });
});

describe.each([
  ['the fetch of the runtime', undefined],
  ['the fetch on node:http', nodeFetch],
])('a client on %s', (_, fetch) => {
  let session: Session;
  beforeEach(async () => {
    client = createClient({ endpoint: api.endpoint, ...api.credentials, fetch });
    session = await client.sessions.create({ image: 'python', name: 'test-session', resources: { cpu: 1 } });
  });

  it('gives every operation a request id of its own', async () => {
    await client.auth.whoami();
    await client.images.list();
    const ids = api.requests.map(({ requestId }) => requestId);
    expect(ids).not.toContain(undefined);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('uses the given request id', async () => {
    const fixed = createClient({ endpoint: api.endpoint, ...api.credentials, fetch, requestId: 'mine-1' });
    await fixed.auth.whoami();
    expect(api.requests.at(-1)?.requestId).toBe('mine-1');
    await expect(fixed.sessions.get('nothing-here')).rejects.toMatchObject({
      code: 'session-not-found',
      requestId: 'mine-1',
    });
  });

  it('runs code and delivers each item once', async () => {
    const run = session.run('count');
    const seen: string[] = [];
    for await (const [kind, text] of run) {
      expect(kind).toBe('stdout');
      seen.push(String(text));
    }
    expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => `${i}\n`));
    const outcome = await run.result;
    expect(outcome).toMatchObject({ exitCode: 0, status: 'finished', stdout: seen.join(''), notices: [] });
  });

  it.each(['cut-before', 'cut-after'] as const)('delivers each item once when connections are %s', async (kind) => {
    let calls = 0;
    api.fault = (line) => (line.includes('session.execute') && calls++ % 3 === 0 ? kind : undefined);
    const outcome = await session.run('count').result;
    expect(outcome.stdout).toBe(Array.from({ length: 40 }, (_, i) => `${i}\n`).join(''));
    const starts = [...api.sessions.values()][0]?.executions.filter((call) => call.mode === 'query').length;
    expect(starts).toBe(1);
  });

  it('answers a program that asks for input', async () => {
    const asked: boolean[] = [];
    const run = session.run('echo', { onInputRequest: ({ isPassword }) => asked.push(isPassword) });
    await run.write('a\nb\n');
    await run.write('c');
    await run.end();
    expect((await run.result).stdout).toBe('<a\n><b\n><c>');
    expect(asked.length).toBe(4);
    await expect(run.write('more')).rejects.toMatchObject({ code: 'state-conflict' });
  });

  it('pipes text into a command as it is', async () => {
    const run = session.exec('echo');
    const text = 'ä🙂'.repeat(60_000);
    await Promise.all([run.write(text), run.end()]);
    expect((await run.result).stdout.replace(/[<>]/g, '')).toBe(text);
  });

  it('interrupts a run', async () => {
    const run = session.run('forever');
    await run.interrupt();
    await expect(run.result).resolves.toMatchObject({ exitCode: 130 });
  });

  it('tells what happened besides the exit code', async () => {
    const { exitCode, stderr, notices } = await session.exec('memory').result;
    expect({ exitCode, stderr }).toEqual({ exitCode: 137, stderr: 'half' });
    expect(notices.map((notice) => notice.code)).toEqual(['out-of-memory']);
  });

  it('fails when the session vanished during a run, for result and iteration', async () => {
    const run = session.run('forever');
    await run.interrupt();
    api.sessions.clear();
    const other = session.run('count');
    expect(await codeOf(other.result)).toBe('session-not-found');
    const iterate = (async () => {
      for await (const _ of other);
    })();
    expect(await codeOf(iterate)).toBe('session-not-found');
  });

  it('moves files in both directions', async () => {
    const bytes = Buffer.alloc(3_000_000, 'x');
    const local = join(folder, 'big.bin');
    await writeFile(local, bytes);
    const progress: number[] = [];
    await session.upload('big file&.bin', { file: local }, { onProgress: (done) => progress.push(done) });
    expect(progress.at(-1)).toBe(bytes.length);
    expect((await session.download('big file&.bin')).equals(bytes)).toBe(true);
    await session.downloadTo('big file&.bin', join(folder, 'copy.bin'));
    expect((await readFile(join(folder, 'copy.bin'))).equals(bytes)).toBe(true);
    await session.upload('s', { stream: createReadStream(local), size: bytes.length });
    await session.upload('empty', '');
    expect((await session.download('empty')).length).toBe(0);
    expect((await session.files()).files.map((file) => file.filename)).toEqual(['big file&.bin', 's', 'empty']);
  });

  it('refuses data of another size than announced, and leaves no half file behind', async () => {
    const stream = createReadStream(import.meta.filename);
    expect(await codeOf(session.upload('x', { stream, size: 3 }))).toBe('invalid-input');
    expect(await codeOf(session.upload('x', { file: join(folder, 'absent') }))).toBe('file-not-found');
    expect(await codeOf(session.downloadTo('absent', join(folder, 'copy')))).toBe('file-not-found');
    expect(await codeOf(session.upload('../x', 'x'))).toBe('invalid-path');
    expect(await readdir(folder)).toEqual([]);
  });

  it('watches a session to its end', async () => {
    const seen: string[] = [];
    for await (const view of session.watch()) seen.push(view.status);
    expect(seen).toEqual(['RUNNING', 'TERMINATED']);
  });

  it('ends a watch that the server refuses with the error it gave', async () => {
    api.sessions.clear();
    const watch = async () => {
      for await (const _ of session.watch());
    };
    expect(await codeOf(watch())).toBe('session-not-found');
    const stranger = createClient({ endpoint: api.endpoint, accessKey: 'AK', secretKey: 'x', fetch });
    const refused = new Promise((_, reject) => {
      stranger.rpc.session.watch.subscribe({ session: 'x' }, { onError: reject });
    });
    await expect(refused).rejects.toMatchObject({ code: 'auth-unknown-key' });
  });

  it('tells that nothing answers', async () => {
    const free = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => free.once('listening', resolve));
    const { port } = free.address() as { port: number };
    await new Promise((resolve) => free.close(resolve));
    const lost = createClient({ endpoint: `http://127.0.0.1:${port}`, ...api.credentials, fetch });
    await expect(lost.auth.whoami()).rejects.toMatchObject({
      code: 'server-unreachable',
      requestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
  });

  it('asks again when the connection of a query was lost, but never repeats a change', async () => {
    let cuts = 0;
    api.fault = () => (cuts++ < 2 ? 'cut-before' : undefined);
    await expect(client.auth.whoami()).resolves.toMatchObject({ role: 'user' });
    cuts = 0;
    expect(await codeOf(client.sessions.create({ image: 'python' }))).toBe('connection-lost');
    expect(cuts).toBe(1);
  });

  it('sends long queries in a body', async () => {
    expect(await session.complete('x'.repeat(100_000), 3)).toEqual(['xxx…']);
  });

  it('gives the server’s word on a wrong secret', async () => {
    const wrong = createClient({ endpoint: api.endpoint, ...api.credentials, secretKey: 'wrong', fetch });
    await expect(wrong.auth.whoami()).rejects.toMatchObject({ code: 'auth-bad-signature', hint: /login/ });
    await expect(wrong.rpc.auth.whoami.query()).rejects.toBeInstanceOf(AppError);
  });
});

describe('waiting', () => {
  it('shows why a session does not run yet', async () => {
    api.pendingPolls = 2;
    const session = await client.sessions.create({ image: 'python' });
    const seen: string[] = [];
    await session.waitUntilRunning({ onChange: (view) => seen.push(`${view.status} ${view.reason.code}`) });
    expect(seen).toEqual(['PENDING queued', 'PENDING insufficient-resources']);
    expect(session.view.status).toBe('RUNNING');
  });

  it('gives up with the reason', async () => {
    api.pendingPolls = 1_000_000;
    const session = await client.sessions.create({ image: 'python' });
    await expect(session.waitUntilRunning({ timeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'wait-timeout',
      message: expect.stringContaining('No agent has enough free resources'),
    });
  });

  it('fails when the session ended instead', async () => {
    const session = await client.sessions.create({ image: 'python' });
    await session.destroy();
    expect(await codeOf(session.waitUntilRunning())).toBe('session-failed');
    await expect(session.waitUntilEnded()).resolves.toMatchObject({ status: 'TERMINATED' });
  });

  it('destroys a session at the end of its block', async () => {
    {
      await using session = await client.sessions.create({ image: 'python' });
      expect(session.view.status).toBe('RUNNING');
    }
    expect([...api.sessions.values()].map(({ view }) => view.status)).toEqual(['TERMINATED']);
  });
});

describe('answers that are no success', () => {
  it.each([
    ['a proxy’s page', 502, '<html>Bad gateway</html>', 'server-unreachable'],
    [
      'problem+json',
      400,
      '{"type":"https://api.backend.ai/probs/too-many-sessions-matched","title":"Too many."}',
      'too-many-matches',
    ],
    [
      'our codes in problem+json',
      400,
      '{"type":"x/generic-bad-request","title":"Bad.","error_code":"session-not-running"}',
      'session-not-running',
    ],
    ['nothing', 500, '', 'internal'],
    ['our body', 409, '{"error":{"code":"kernel-busy","message":"Busy.","hint":"Wait."}}', 'kernel-busy'],
    ['a code of a later version', 409, '{"code":"nobody-knows","message":"Busy.","hint":"Wait."}', 'internal'],
  ])('understands %s', (_, status, text, code) => {
    const error = errorOfResponse(status, text, 'r-1');
    expect(error.code).toBe(code);
    expect(error.requestId).toBe('r-1');
  });
});
