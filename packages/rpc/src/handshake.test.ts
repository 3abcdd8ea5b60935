import { type Clock, type RequestId, systemClock } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import { afterEach, describe, expect, it } from 'vitest';
import { CallTable } from './calls.ts';
import type { Duplex } from './duplex.ts';
import { acceptPeer, handshakeTimeoutMs, introduce } from './handshake.ts';
import { generateIdentity } from './identity.ts';
import { listenInProcess } from './in-process-duplex.ts';
import { newJoinToken } from './join-token.ts';
import { failureOf, type Transport, until, World } from './world.test.kit.ts';

type Message = Record<string, unknown>;

/** Speaks the handshake by hand. */
class HandSpoken {
  readonly duplex: Duplex;
  readonly received: Message[] = [];
  closed = false;

  constructor(duplex: Duplex) {
    this.duplex = duplex;
    duplex.handler = {
      onMessage: (text) => this.received.push(JSON.parse(text)),
      onClose: () => {
        this.closed = true;
      },
      onDrain() {},
    };
  }

  say(message: unknown): void {
    this.duplex.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  async rejection(): Promise<Message> {
    await until(() => this.closed, 'the connection was closed');
    const last = this.received.at(-1);
    expect(last).toMatchObject({ type: 'reject' });
    return last?.error as Message;
  }
}

describe.each<Transport>(['websocket', 'in-process'])('the handshake (%s)', (transport) => {
  let world: World;
  const start = async (): Promise<World> => {
    world = await new World(transport).start();
    return world;
  };
  afterEach(() => world.stop());

  const speak = async (): Promise<HandSpoken> => new HandSpoken(await world.rawLine());
  const hello = (changes: Message = {}): Message => ({
    type: 'hello',
    protocol: 'backend.ai-rpc/1',
    kind: 'manager',
    id: 'm-1',
    publicKey: world.identity.publicKey,
    nonce: 'n'.repeat(43),
    ...changes,
  });

  it('refuses a server with another key than the pinned ones', async () => {
    await start();
    const client = world.client({ serverKeys: [generateIdentity('agent', 'i-server').publicKey] });
    expect(await failureOf(client.connect())).toMatchObject({ code: 'peer-rejected' });
    expect(await failureOf(client.api.echo.query(1))).toMatchObject({ code: 'peer-rejected' });
    expect(world.observed.began).toEqual([]);
  });

  it('refuses a caller with another key than the registered one', async () => {
    await start();
    const client = world.client({ identity: generateIdentity('manager', 'm-1') });
    expect(await failureOf(client.api.echo.query(1))).toMatchObject({ code: 'peer-rejected' });
    expect(world.observed.began).toEqual([]);
  });

  it('refuses a caller that borrows the public key of another', async () => {
    await start();
    const thief = { ...generateIdentity('manager', 'm-1'), publicKey: world.identity.publicKey };
    expect(await failureOf(world.client({ identity: thief }).connect())).toMatchObject({ code: 'peer-rejected' });
  });

  it('refuses a revoked caller, ends its connection on demand, and takes it back when it is registered again', async () => {
    const client = (await start()).client();
    await client.connect();
    world.directory.keys.delete('manager:m-1');
    world.cutConnections();
    await until(() => client.state === 'waiting', 'the connection was cut');
    expect(await failureOf(client.connect())).toMatchObject({ code: 'peer-rejected' });
    world.directory.keys.set('manager:m-1', world.identity.publicKey);
    await until(() => client.state === 'ready', 'it tried again by itself');
  });

  it('refuses a kind of peer that is not served here', async () => {
    await start();
    const identity = generateIdentity('worker', 'w-1');
    world.directory.keys.set('worker:w-1', identity.publicKey);
    expect(await failureOf(world.client({ identity }).connect())).toMatchObject({ code: 'peer-rejected' });
  });

  it('registers a new peer by its token, once', async () => {
    await start();
    world.directory.tokens.add('token-1');
    const client = world.client({ identity: generateIdentity('manager', 'm-2'), token: 'token-1' });
    expect(await client.api.echo.query('joined')).toBe('joined');
    const second = world.client({ identity: generateIdentity('manager', 'm-3'), token: 'token-1' });
    expect(await failureOf(second.connect())).toMatchObject({
      code: 'peer-rejected',
      message: 'The join token is unknown, used or expired.',
    });
  });

  it('takes a token that names the keys of eighty managers', async () => {
    await start();
    const keys = Array.from({ length: 80 }, (_, at) => generateIdentity('manager', `m-${at}`).publicKey);
    const { text } = newJoinToken(keys);
    world.directory.tokens.add(text);
    const client = world.client({ identity: generateIdentity('manager', 'm-2'), token: text });
    expect(await client.api.echo.query('joined')).toBe('joined');
  });

  it('does not spend a token on a caller that cannot prove its key, nor on a known one', async () => {
    await start();
    world.directory.tokens.add('token-1');
    const thief = { ...generateIdentity('manager', 'm-9'), publicKey: world.identity.publicKey };
    expect(await failureOf(world.client({ identity: thief, token: 'token-1' }).connect())).toMatchObject({
      code: 'peer-rejected',
    });
    await world.client({ token: 'token-1' }).connect();
    expect([...world.directory.tokens]).toEqual(['token-1']);
  });

  it('does not show a token to a server that has not proved itself', async () => {
    await start();
    const said: string[] = [];
    const stop = listenInProcess(`impostor-${transport}`, (duplex) => {
      duplex.handler = { onMessage: (text) => said.push(text), onClose() {}, onDrain() {} };
      const impostor = generateIdentity('agent', 'i-server');
      const claim = { kind: 'agent', id: 'i-server', publicKey: world.serverIdentity.publicKey };
      duplex.send(
        JSON.stringify({ type: 'challenge', ...claim, nonce: 'n'.repeat(43), signature: impostor.publicKey }),
      );
    });
    const client = world.client({ address: `inproc:impostor-${transport}`, token: 'very-secret' });
    expect(await failureOf(client.connect())).toMatchObject({ code: 'peer-rejected' });
    await until(() => said.join().includes('hello'), 'the caller introduced itself');
    for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(said.join()).not.toContain('very-secret');
    stop();
  });

  it('refuses a proof that was recorded in another connection', async () => {
    await start();
    // A complete, valid conversation, recorded on its way.
    const line = await world.rawLine();
    const sent: string[] = [];
    const send = line.send.bind(line);
    line.send = (text) => {
      sent.push(text);
      send(text);
    };
    const { identity } = world;
    const serverKeys = [world.serverIdentity.publicKey];
    await introduce(line, { identity, serverKeys, token: undefined, clock: systemClock }, () => {});
    line.terminate();

    const replay = await speak();
    replay.say(sent[0]);
    await until(() => replay.received.length === 1, 'the server challenged');
    replay.say(sent[1]);
    expect(await replay.rejection()).toMatchObject({ code: 'peer-rejected' });
  });

  it("refuses the server's own signature as the proof of a caller", async () => {
    await start();
    world.directory.keys.set('manager:i-server', world.serverIdentity.publicKey);
    const mirror = await speak();
    mirror.say(hello({ id: 'i-server', publicKey: world.serverIdentity.publicKey }));
    await until(() => mirror.received.length === 1, 'the server challenged');
    mirror.say({ type: 'proof', signature: mirror.received[0]?.signature });
    expect(await mirror.rejection()).toMatchObject({ code: 'peer-rejected' });
  });

  it('refuses operations before the proof', async () => {
    await start();
    const early = await speak();
    early.say('{"id":1,"path":"echo","type":"query","headers":{},"input":{"json":1}}');
    expect(await early.rejection()).toMatchObject({ code: 'peer-rejected' });
    const eager = await speak();
    eager.say(hello());
    eager.say('{"id":1,"path":"echo","type":"query","headers":{},"input":{"json":1}}');
    expect(await eager.rejection()).toMatchObject({ code: 'peer-rejected' });
    expect(world.observed.began).toEqual([]);
  });

  it.each([
    ['no JSON', 'garbage'],
    ['another kind of JSON', '[1]'],
    ['another protocol', { type: 'hello', protocol: 'other/9' }],
    ['a malformed key', { publicKey: 'short' }],
    ['a malformed nonce', { nonce: 7 }],
    ['a malformed id', { id: 'two words' }],
    ['an unknown kind', { kind: 'stranger' }],
    ['a large message', { filler: 'f'.repeat(8_000) }],
  ])('refuses %s', async (_, message) => {
    await start();
    const odd = await speak();
    odd.say(typeof message === 'string' ? message : hello(message));
    expect(await odd.rejection()).toMatchObject({ code: 'peer-rejected' });
  });

  it('cuts a line that sends far too much before its proof', async () => {
    await start();
    const flood = await speak();
    flood.say('x'.repeat(1_000_000));
    await until(() => flood.closed, 'the line was cut');
    expect(world.observed.began).toEqual([]);
  });

  it('tells a caller nothing about a directory that fails, and logs it', async () => {
    await start();
    world.directory.find = () => Promise.reject(new Error('the database is secret'));
    const failure = await failureOf(world.client().connect());
    expect(failure).toMatchObject({ code: 'connection-lost' });
    expect(JSON.stringify([failure.toBody(), failure.cause])).not.toContain('secret');
    expect(world.logs.filter(({ level }) => level === 'error')).toMatchObject([{ message: 'rpc handshake failed' }]);
  });
});

describe('a client', () => {
  it.each([
    [2, 'also at the top level, where its peer looks for it'],
    [3, 'in the headers only'],
  ])('sends the request id to a peer of RPC version %i %s', async (peerRpcVersion) => {
    const world = new World('in-process');
    const frames: Message[] = [];
    const limits = { maxFrameBytes: 10_000, maxConcurrent: 10 };
    const { serverIdentity: identity, directory } = world;
    const stop = listenInProcess('by-hand', (duplex) => {
      void acceptPeer(duplex, { identity, directory, allow: ['manager'], limits, clock: systemClock }, () => {
        duplex.handler = { onMessage: (text) => frames.push(JSON.parse(text)), onClose() {}, onDrain() {} };
      });
    });
    const client = world.client({ address: 'inproc:by-hand', peerRpcVersion });
    const call = runWithRequest({ requestId: 'req-v' as RequestId }, () => failureOf(client.api.echo.query(1)));
    await until(() => frames.length === 1, 'the frame arrived');
    expect(frames[0]).toMatchObject({ headers: { request_id: 'req-v' } });
    expect(frames[0]?.request_id).toBe(peerRpcVersion === 2 ? 'req-v' : undefined);
    await client.close();
    expect(await call).toMatchObject({ code: 'connection-lost' });
    stop();
  });

  it('can be closed while it connects, and then does not try again', async () => {
    const world = await new World('websocket').start();
    const client = world.client();
    const attempt = failureOf(client.connect());
    await client.close();
    await attempt;
    expect(client.state).toBe('closed');
    expect(world.server.connected()).toEqual([]);
    await world.stop();
  });
});

describe('a silent line', () => {
  const silent = (): { duplex: Duplex; timers: Array<() => void>; clock: Clock } => {
    const timers: Array<() => void> = [];
    const clock: Clock = {
      ...systemClock,
      setTimer(ms, callback) {
        expect(ms).toBe(handshakeTimeoutMs);
        timers.push(callback);
        return () => {};
      },
    };
    const duplex: Duplex = {
      remote: 'somewhere',
      channelBinding: '',
      bufferedAmount: 0,
      send() {},
      pause() {},
      resume() {},
      close() {},
      terminate() {},
      limitInbound() {},
      liftInboundLimit() {},
      handler: { onMessage() {}, onClose() {}, onDrain() {} },
    };
    return { duplex, timers, clock };
  };
  const identity = generateIdentity('manager', 'm-1');

  it('is given up by both ends after the time limit', async () => {
    const { duplex, timers, clock } = silent();
    const limits = { maxFrameBytes: 1, maxConcurrent: 1 };
    const directory = { find: async () => undefined };
    const server = failureOf(acceptPeer(duplex, { identity, directory, allow: [], limits, clock }, () => {}));
    const caller = failureOf(introduce(duplex, { identity, serverKeys: [], token: undefined, clock }, () => {}));
    for (const fire of timers) fire();
    expect(await server).toMatchObject({ code: 'peer-rejected' });
    expect(await caller).toMatchObject({ code: 'peer-rejected' });
  });

  it('lets a call end at its deadline with a cancellation for the server', async () => {
    const { duplex } = silent();
    const sent: string[] = [];
    const line = { ...duplex, send: (text: string) => void sent.push(text) };
    const table = new CallTable({
      clock: systemClock,
      remote: 'somewhere',
      maxFrameBytes: 1_000,
      maxQueued: 10,
      legacyRequestId: true,
      onLost() {},
    });
    table.attach(line, { maxFrameBytes: 1_000, maxConcurrent: 10 });
    const error = await new Promise((resolve) => {
      const operation = { path: 'p', type: 'query' as const, headersText: '{"request_id":"r-1"}', inputText: '{}' };
      const ignore = (): void => {};
      table.start(
        { ...operation, requestId: 'r-1', deadlineMs: 50, idempotent: true },
        { onItem: ignore, onResult: ignore, onDone: ignore, onError: resolve },
      );
    });
    expect(error).toMatchObject({ code: 'deadline-exceeded' });
    await until(() => sent.length === 2, 'the cancellation went out');
    const [frame, cancel] = sent.map((text) => JSON.parse(text));
    expect(frame).toMatchObject({ id: 1, headers: { request_id: 'r-1' }, request_id: 'r-1' });
    expect(frame.deadlineMs).toBeLessThan(50);
    expect(cancel).toEqual({ id: 1, type: 'cancel' });
  });
});
