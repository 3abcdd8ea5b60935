import { connect, createServer, type Server, type Socket } from 'node:net';
import * as tls from 'node:tls';
import { silentLogger } from '@backend.ai/telemetry';
import { testCertificate } from '@backend.ai/testing';
import { initTRPC } from '@trpc/server';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { generateIdentity } from './identity.ts';
import { createRpcServer } from './server.ts';
import { failureOf, until, World } from './world.test.kit.ts';

/** What only sockets can do, and do wrong. */

describe('serving on a socket', () => {
  let world: World;
  const relays: Server[] = [];
  const lines: Socket[] = [];
  const start = async (limits = {}): Promise<World> => {
    world = await new World('websocket', limits).start();
    return world;
  };
  afterEach(async () => {
    for (const line of lines.splice(0)) line.destroy();
    for (const relay of relays.splice(0)) relay.close();
    await world.stop();
  });

  const listen = async (relay: Server): Promise<number> => {
    relays.push(relay);
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
    return (relay.address() as { port: number }).port;
  };

  it('names host and port when the port is in use', async () => {
    await start();
    const port = Number(new URL(world.address).port);
    const failure = await failureOf(world.server.listenWebSocket({ host: '127.0.0.1', port }));
    expect(failure).toMatchObject({ code: 'port-in-use', data: { host: '127.0.0.1', port } });
    expect(failure.message).toBe(`Port ${port} on 127.0.0.1 is in use.`);
  });

  it('refuses to serve or call other machines without TLS', async () => {
    await start();
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.example.org'])
      expect(await failureOf(world.server.listenWebSocket({ host, port: 0 }))).toMatchObject({
        code: 'config-invalid',
      });
    for (const address of ['ws://10.0.0.1:6011', 'http://127.0.0.1:1', '127.0.0.1:6011', ''])
      expect(() => world.client({ address })).toThrow(expect.objectContaining({ code: 'config-invalid' }));
  });

  it('refuses a router with a procedure that does not state who may call it', async () => {
    const { directory } = await start();
    const t = initTRPC.create();
    const identity = generateIdentity('agent', 'i-1');
    const router = t.router({ careless: t.procedure.query(() => 1) });
    expect(() => createRpcServer({ router, identity, directory, allow: [], logger: silentLogger })).toThrow('careless');
  });

  it('answers a plain HTTP request with a hint', async () => {
    await start();
    expect((await fetch(world.address.replace('ws:', 'http:'))).status).toBe(426);
  });

  it('has a name for a peer that is gone before anybody has asked for its address', async () => {
    await start();
    const { hostname, port } = new URL(world.address);
    const upgrade = [
      ...['GET / HTTP/1.1', 'Host: x', 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'],
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    ].join('\r\n');
    const rejected = () =>
      world.logs.filter(({ message }) => message === 'rpc peer rejected').map(({ fields }) => fields);
    await until(() => {
      const line = connect({ host: hostname, port: Number(port) }, () => {
        line.write(upgrade, () => line.resetAndDestroy());
      });
      line.on('error', () => {});
      return rejected().some(({ remote }) => remote === 'a peer');
    }, 'a peer that is gone when its line is accepted');
    for (const record of rejected()) {
      expect(record).toMatchObject({ code: 'connection-lost', reason: expect.not.stringContaining('undefined') });
      expect(record).not.toHaveProperty('error');
    }
  });

  it('works over TLS with a self-signed certificate: the keys prove the peers', async () => {
    await start();
    const { address } = await world.server.listenWebSocket({ host: '127.0.0.1', port: 0, tls: testCertificate });
    expect(address).toMatch(/^wss:/);
    expect(await world.client({ address }).api.echo.query('over TLS')).toBe('over TLS');
  });

  it('refuses a relay that ends TLS in the middle, even with the same certificate', async () => {
    await start();
    const real = await world.server.listenWebSocket({ host: '127.0.0.1', port: 0, tls: testCertificate });
    const relay = tls.createServer({ ...testCertificate, minVersion: 'TLSv1.3' }, (near) => {
      const far = tls.connect({ host: '127.0.0.1', port: real.port, rejectUnauthorized: false });
      lines.push(near, far);
      near.pipe(far).pipe(near);
      near.on('error', () => far.destroy());
      far.on('error', () => near.destroy());
    });
    const port = await listen(relay);
    const client = world.client({ address: `wss://127.0.0.1:${port}` });
    expect(await failureOf(client.connect())).toMatchObject({ code: 'peer-rejected' });
  });

  it('notices a half-open connection at both ends and goes on with a new one', async () => {
    await start({ pingMs: 60 });
    const target = Number(new URL(world.address).port);
    let frozen = false;
    const relay = createServer((near) => {
      const far = connect(target, '127.0.0.1');
      lines.push(near, far);
      const forward = (from: Socket, to: Socket): void => {
        from.on('data', (data) => {
          if (!frozen) to.write(data);
        });
        from.on('error', () => {});
        from.on('close', () => {
          if (!frozen) to.destroy();
        });
      };
      forward(near, far);
      forward(far, near);
    });
    const port = await listen(relay);
    const client = world.client({ address: `ws://127.0.0.1:${port}`, limits: { pingMs: 60 } });
    const bump = failureOf(client.api.bump.mutate());
    await until(() => world.observed.changes.length === 1, 'it began');
    frozen = true;
    expect(await bump).toMatchObject({ code: 'connection-lost' });
    await until(() => world.server.connected().length === 0, 'the server noticed as well');
    frozen = false;
    expect(await client.api.echo.query('again')).toBe('again');
  });

  it('keeps an idle connection', async () => {
    // Longer than this process may be held up: pings, answers and the relay are all in it.
    await start({ pingMs: 250 });
    const target = Number(new URL(world.address).port);
    let moved = 0;
    const relay = createServer((near) => {
      const far = connect(target, '127.0.0.1');
      lines.push(near, far);
      near.pipe(far).pipe(near);
      far.on('data', () => {
        moved += 1;
      });
    });
    const client = world.client({ address: `ws://127.0.0.1:${await listen(relay)}`, limits: { pingMs: 250 } });
    const states: string[] = [];
    await client.connect();
    client.onStateChange((state) => states.push(state));
    const already = moved;
    await until(() => moved > already + 10, 'pings and their answers');
    expect(states).toEqual([]);
  });

  it('closes the connection of a peer that sends binary messages or more than can be read', async () => {
    await start({ maxFrameBytes: 10_000 });
    const open = async (): Promise<WebSocket> => {
      const socket = new WebSocket(world.address);
      await new Promise((resolve) => socket.once('open', resolve));
      return socket;
    };
    const closed = (socket: WebSocket): Promise<void> =>
      new Promise((resolve) => socket.once('close', () => resolve()));
    const binary = await open();
    binary.send(Buffer.from([1, 2, 3]));
    await closed(binary);
    const raw = await world.rawPeer();
    raw.duplex.send('x'.repeat(50_000));
    await until(() => raw.closed !== undefined, 'the connection was closed');
  });

  it('bounds how many peers may be on the doorstep', async () => {
    await start({ maxHandshakes: 2 });
    const waiting = await Promise.all([world.rawLine(), world.rawLine()]);
    expect(await failureOf(world.client().connect())).toMatchObject({ code: 'rate-limited' });
    for (const line of waiting) line.terminate();
  });

  it('fails a call in the middle when the server process dies', async () => {
    await start();
    const client = world.client();
    const bump = failureOf(client.api.bump.mutate());
    await until(() => world.observed.changes.length === 1, 'it began');
    world.cutConnections();
    expect(await bump).toMatchObject({ code: 'connection-lost' });
  });
});
