import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { encodeTerminalFrame } from '@backend.ai/rpc';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RawData, WebSocket } from 'ws';
import { accessKey, FakeWorld, sessionView, TestServer, until } from './http-world.ts';

/** WebSockets as the official clients use them: signed like a GET, one message format for each URL. */

let world: FakeWorld;
let server: TestServer;
const open = new Set<WebSocket>();

beforeAll(async () => {
  world = new FakeWorld();
  server = await TestServer.start(world);
});
afterAll(() => server.close());
beforeEach(() => {
  world.fail = undefined;
  world.calls.length = 0;
  world.runs.length = 0;
  world.beforeRun = async () => {};
  world.serviceStart = { status: 'started', ports: [8080, 8081] };
  world.sessions.clear();
  world.sessions.set('sess', sessionView('sess', 'RUNNING'));
});
afterEach(() => {
  for (const socket of open) socket.terminate();
  open.clear();
});

interface Connected {
  readonly socket: WebSocket;
  readonly messages: string[];
  readonly headers: Record<string, unknown>;
  closed: { code: number; reason: string } | undefined;
}

interface Refused {
  readonly status: number;
  readonly body: string;
}

function connect(target: string, headers: Record<string, string | undefined> = {}): Promise<Connected | Refused> {
  const signed = server.headersFor(target, {
    headers: { 'content-type': undefined, 'content-length': undefined, ...headers },
  });
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}${target}`, { headers: signed });
  open.add(socket);
  const messages: string[] = [];
  socket.on('message', (data: RawData) => messages.push(String(data)));
  return new Promise((resolve, reject) => {
    let upgrade: Record<string, unknown> = {};
    const connected = { socket, messages, closed: undefined as Connected['closed'] };
    socket.once('upgrade', (response) => {
      upgrade = response.headers;
    });
    socket.once('open', () => resolve(Object.assign(connected, { headers: upgrade })));
    socket.once('close', (code, reason) => {
      connected.closed = { code, reason: reason.toString() };
    });
    socket.once('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    socket.on('error', reject);
  });
}

async function connected(target: string): Promise<Connected> {
  const found = await connect(target);
  if ('status' in found) throw new Error(`refused with ${found.status}: ${found.body}`);
  return found;
}

describe('an upgrade', () => {
  test('carries the request id, and is logged as one request with status 101', async () => {
    world.stream = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const { socket, headers } = await connected('/stream/session/sess/pty');
    const requestId = headers['x-backend-request-id'];
    expect(requestId).toBe(world.last('open').boundId);
    socket.close();
    await until(
      () =>
        world.logs.some((log) => log.msg === 'request handled' && log.request_id === requestId && log.status === 101),
      'the access log',
    );
  });

  test.each([
    [
      'with a signature of somebody else',
      { authorization: `BackendAI signMethod=HMAC-SHA256, credential=${accessKey}:00` },
      401,
    ],
    ['of another version of the API', { 'x-backendai-version': 'v1.2' }, 400],
  ])('%s is refused with an ordinary answer', async (_what, headers, status) => {
    expect(await connect('/stream/session/sess/pty', headers)).toMatchObject({ status });
    expect(world.calls).toEqual([]);
  });

  test('of an unknown session or URL is refused with an ordinary answer', async () => {
    expect(await connect('/stream/session/none/execute')).toMatchObject({ status: 404 });
    expect(await connect('/stream/session/sess/nothing')).toMatchObject({ status: 404 });
  });

  test('is needed where a WebSocket is offered', async () => {
    expect((await server.request('/stream/session/sess/pty')).status).toBe(400);
  });

  test.runIf(process.platform === 'linux')(
    'is noticed to be gone when its client vanishes without a word',
    async () => {
      world.stream = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
      const { socket } = await connected('/stream/session/sess/pty');
      const { localPort } = (socket as unknown as { _socket: Socket })._socket;
      const hex = (port: number | undefined): string => `:${port?.toString(16).toUpperCase().padStart(4, '0')} `;
      // Which timer of the kernel runs: 02 is keep-alive; another one as long as something is not acknowledged.
      await waitFor(
        async () => {
          const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'latin1')));
          const line = tables
            .join('')
            .split('\n')
            .find((text) => new RegExp(`${hex(server.port)}\\S+${hex(localPort)}`).test(text));
          expect(line?.trim().split(/\s+/)[5]).toMatch(/^02:/);
          return true;
        },
        { what: 'keep-alive' },
      );
    },
  );

  test('to another protocol is refused', async () => {
    const answer = await server.raw('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('a run', () => {
  const url = '/stream/session/sess/execute';
  const answer = (status: string, more: object = {}) =>
    ({ runId: 'r', status, exitCode: null, options: null, console: [], cursor: 0, notices: [], ...more }) as never;

  test('sends each step until it has finished, then closes', async () => {
    world.runs.push(
      answer('continued', { console: [['stdout', 'a']], cursor: 5 }),
      answer('build-finished', { exitCode: 0 }),
    );
    world.runs.push(answer('finished', { exitCode: 3, console: [['stderr', 'b']] }));
    const run = await connected(url);
    run.socket.send(
      JSON.stringify({ mode: 'batch', code: '', options: { build: '*', exec: 'x', timeouts: { build: 1.5 } } }),
    );
    await until(() => run.closed !== undefined, 'the end');
    expect(run.messages.map((message) => JSON.parse(message))).toEqual([
      { status: 'continued', exitCode: null, options: null, files: [], console: [['stdout', 'a']] },
      { status: 'build-finished', exitCode: 0, options: null, files: [], console: [] },
      { status: 'finished', exitCode: 3, options: null, files: [], console: [['stderr', 'b']] },
    ]);
    expect(run.closed?.code).toBe(1000);
    const calls = world.calls.filter(({ name }) => name === 'execute').map(({ input }) => input);
    expect(calls).toMatchObject([
      { mode: 'batch', cursor: 0, options: { build: '*', exec: 'x', timeoutsMs: { build: 1500 } } },
      { mode: 'continue', cursor: 5 },
      { mode: 'continue' },
    ]);
    expect(new Set(calls.map((call) => (call as { runId: string }).runId)).size).toBe(1);
  });

  test('takes the answer to a question as plain text', async () => {
    world.runs.push(answer('waiting-input', { options: { is_password: true } }), answer('finished', { exitCode: 0 }));
    const run = await connected(url);
    run.socket.send(JSON.stringify({ mode: 'query', code: 'input()', options: {} }));
    await until(() => run.messages.length === 1, 'the question');
    expect(JSON.parse(run.messages[0]!)).toMatchObject({ status: 'waiting-input', options: { is_password: true } });
    run.socket.send('{"secret": 1}');
    await until(() => run.closed !== undefined, 'the end');
    expect(world.last('execute').input).toMatchObject({ mode: 'input', code: '{"secret": 1}' });
  });

  test('is interrupted when its client goes away', async () => {
    world.runs.push(answer('waiting-input', { options: { is_password: false } }));
    const run = await connected(url);
    run.socket.send(JSON.stringify({ mode: 'query', code: 'input()' }));
    await until(() => run.messages.length === 1, 'the question');
    run.socket.terminate();
    await until(() => world.calls.some(({ name }) => name === 'interrupt'), 'the interrupt');
    const { runId } = world.last('execute').input as { runId: string };
    expect(world.last('interrupt').input).toEqual({ session: 'sess', runId });
  });

  test('takes no more than one large message before it asks for any', async () => {
    world.runs.push(answer('waiting-input', { options: { is_password: false } }));
    let answered = (): void => {};
    world.beforeRun = () => new Promise((resolve) => (answered = resolve));
    const run = await connected(url);
    run.socket.send(JSON.stringify({ mode: 'query', code: 'input()' }));
    for (let i = 0; i < 3; i++) run.socket.send('x'.repeat(6 * 1024 * 1024));
    await until(() => run.closed !== undefined, 'the end');
    expect(run.closed?.code).toBe(1008);
    answered();
    await until(() => world.calls.some(({ name }) => name === 'interrupt'), 'the interrupt');
  });

  test.each(['no json', '{"mode":"other"}', '[]'])('that begins with %s is an error', async (first) => {
    const run = await connected(url);
    run.socket.send(first);
    await until(() => run.closed !== undefined, 'the end');
    expect(JSON.parse(run.messages[0]!)).toMatchObject({ status: 'error', msg: expect.any(String) });
  });
});

describe('a terminal', () => {
  /** Echoes frames to the terminal as they were, and says what the test wants. */
  class Terminal extends Duplex {
    readonly received: Buffer[] = [];
    override _read(): void {}
    override _write(chunk: Buffer, _encoding: string, done: () => void): void {
      this.received.push(chunk);
      done();
    }
    frame(kind: number, payload: Buffer): void {
      const head = Buffer.alloc(5);
      head.writeUInt8(kind);
      head.writeUInt32BE(payload.length, 1);
      this.push(Buffer.concat([head, payload]));
    }
  }

  test('translates the messages of official clients', async () => {
    const terminal = new Terminal();
    world.stream = () => terminal;
    const { socket, messages } = await connected('/stream/session/sess/pty?terminal=logs&rows=50&cols=120&term=vt100');
    expect(world.last('open').input).toEqual({
      session: 'sess',
      target: { kind: 'terminal', name: 'logs', rows: 50, cols: 120, term: 'vt100' },
    });
    for (const message of [
      { type: 'stdin', chars: Buffer.from('ls\n').toString('base64') },
      { type: 'ping' },
      { type: 'resize', rows: 10, cols: 20 },
      { type: 'restart' },
    ])
      socket.send(JSON.stringify(message));
    await until(() => Buffer.concat(terminal.received).length >= 5 + 3 + 5 + 4 + 5, 'all frames');
    expect(Buffer.concat(terminal.received)).toEqual(
      Buffer.concat([
        encodeTerminalFrame({ kind: 'input', data: Buffer.from('ls\n') }),
        encodeTerminalFrame({ kind: 'size', rows: 10, cols: 20 }),
        encodeTerminalFrame({ kind: 'restart' }),
      ]),
    );
    terminal.frame(0, Buffer.from('out: é'));
    await until(() => messages.length === 1, 'output');
    expect(JSON.parse(messages[0]!)).toEqual({ type: 'out', data: Buffer.from('out: é').toString('base64') });
  });

  test('tells the exit code of its shell with the closing', async () => {
    const terminal = new Terminal();
    world.stream = () => terminal;
    const connection = await connected('/stream/session/sess/pty');
    terminal.frame(1, Buffer.from([0, 0, 0, 7]));
    terminal.push(null);
    await until(() => connection.closed !== undefined, 'the end');
    expect(connection.closed).toEqual({ code: 1000, reason: '{"exitCode":7}' });
  });

  test('that breaks off is no end of a shell', async () => {
    const terminal = new Terminal();
    world.stream = () => terminal;
    const connection = await connected('/stream/session/sess/pty');
    terminal.destroy();
    await until(() => connection.closed !== undefined, 'the end');
    expect(connection.closed?.code).toBe(1011);
  });

  test('is let go when its client goes away or speaks nonsense', async () => {
    for (const leave of [(socket: WebSocket) => socket.terminate(), (socket: WebSocket) => socket.send('nonsense')]) {
      const terminal = new Terminal();
      world.stream = () => terminal;
      const { socket } = await connected('/stream/session/sess/pty');
      leave(socket);
      await until(() => terminal.destroyed, 'the stream to be closed');
    }
  });

  test.each(['rows=0', 'cols=99999', 'terminal=../x', 'term=a%0Ab'])('with %s is refused', async (query) => {
    expect(await connect(`/stream/session/sess/pty?${query}`)).toMatchObject({ status: 400 });
    expect(world.calls).toEqual([]);
  });
});

describe('services', () => {
  test('are listed as the official client reads them', async () => {
    const answer = await server.request('/stream/session/sess/apps');
    expect(answer.json).toEqual([
      { name: 'web', protocol: 'http', ports: [8080, 8081], url_template: '{protocol}://{host}:{port}/lab' },
      { name: 'ssh', protocol: 'tcp', ports: [2200] },
    ]);
  });

  test.each(['tcpproxy', 'httpproxy'])('are started, then bytes pass both ways over %s', async (kind) => {
    world.stream = () => {
      const echo: Duplex = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          echo.push(Buffer.concat([Buffer.from('<'), chunk, Buffer.from('>')]));
          done();
        },
      });
      return echo;
    };
    const given = encodeURIComponent(JSON.stringify({ '--base': 'x', '--quiet': null }));
    const { socket, messages } = await connected(`/stream/session/sess/${kind}?app=web&port=8081&arguments=${given}`);
    expect(world.last('startService').input).toEqual({
      session: 'sess',
      service: 'web',
      envs: {},
      arguments: { '--base': 'x', '--quiet': null },
    });
    expect(world.last('open').input).toEqual({ session: 'sess', target: { kind: 'port', port: 8081 } });
    socket.send(Buffer.from('bytes'));
    await until(() => messages.length === 1, 'the echo');
    expect(messages).toEqual(['<bytes>']);
  });

  test('a number is a port of a program of the user', async () => {
    world.stream = () => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    await connected('/stream/session/sess/tcpproxy?app=8000');
    expect(world.last('open').input).toEqual({ session: 'sess', target: { kind: 'port', port: 8000 } });
    expect(world.calls.some(({ name }) => name === 'startService')).toBe(false);
  });

  test('that fail to start, and ports that are not theirs, are refused with an ordinary answer', async () => {
    expect(await connect('/stream/session/sess/tcpproxy?app=web&port=9')).toMatchObject({ status: 400 });
    world.serviceStart = { status: 'failed', ports: [8080], error: 'no such thing' };
    const refused = (await connect('/stream/session/sess/tcpproxy?app=web')) as Refused;
    expect(refused.status).toBe(500);
    expect(JSON.parse(refused.body)).toMatchObject({ error_code: 'service-failed', data: { error: 'no such thing' } });
    expect(world.calls.some(({ name }) => name === 'open')).toBe(false);
  });

  test.each(['port=1', 'app=../x', 'app=web&envs=nonsense', 'app=web&arguments=[1]', 'app=web&port=x'])(
    'with "%s" are refused',
    async (query) => {
      expect(await connect(`/stream/session/sess/tcpproxy?${query}`)).toMatchObject({ status: 400 });
      expect(world.calls).toEqual([]);
    },
  );

  test('are ended on request', async () => {
    const body = { service_name: 'web' };
    expect((await server.request('/session/sess/shutdown-service', { method: 'POST', body })).status).toBe(204);
    expect(world.last('stopService').input).toEqual({ session: 'sess', service: 'web' });
  });
});

test('a server that shuts down closes what is open, and says so to runs', async () => {
  const other = await TestServer.start(world);
  const previous = server;
  server = other;
  try {
    world.runs.push({ ...world.run, status: 'waiting-input', exitCode: null, options: { is_password: false } });
    const run = await connected('/stream/session/sess/execute');
    run.socket.send(JSON.stringify({ mode: 'query', code: 'input()' }));
    await until(() => run.messages.length === 1, 'the question');
    await other.close();
    await until(() => run.closed !== undefined, 'the end');
    expect(run.closed?.code).toBe(1001);
    expect(JSON.parse(run.messages[1]!)).toMatchObject({ status: 'server-restarting' });
    expect(world.calls.some(({ name }) => name === 'interrupt')).toBe(false);
  } finally {
    server = previous;
  }
});
