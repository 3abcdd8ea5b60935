import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createSessionSchema } from '@backend.ai/contract';
import { systemClock } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CallbackClient, type CallbackClientOptions } from '../src/clients/callback-client.ts';
import type { FakeAgent } from './fake-agent.ts';
import { createWorld, type World } from './world.ts';

/** What a receiver got, and what it says to the next ones; 204 when it has nothing else to say. */
interface Receiver {
  readonly url: string;
  readonly port: number;
  readonly messages: Array<{ body: Record<string, unknown>; headers: IncomingMessage['headers'] }>;
  readonly answers: Array<{ status: number; headers?: Record<string, string> }>;
}

let server: Server;
let receiver: Receiver;

beforeAll(async () => {
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    receiver.messages.push({ body: JSON.parse(Buffer.concat(chunks).toString()), headers: request.headers });
    const { status, headers } = receiver.answers.shift() ?? { status: 204 };
    response.writeHead(status, headers).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  receiver = { url: `http://127.0.0.1:${port}/hook`, port, messages: [], answers: [] };
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
afterEach(() => {
  receiver.messages.length = 0;
  receiver.answers.length = 0;
});

describe('a callback request', () => {
  const client = (options: Partial<CallbackClientOptions> = {}): CallbackClient =>
    new CallbackClient({ clock: systemClock, timeoutMs: 5_000, allowPrivate: false, ...options });
  const post = (caller: CallbackClient, url: string): Promise<number> =>
    caller.post(url, '{}', {}, new AbortController().signal);

  it.each([
    'http://127.0.0.1:PORT/',
    'http://2130706433:PORT/',
    'http://[::1]:PORT/',
    'http://[::ffff:127.0.0.1]:PORT/',
    'http://localhost:PORT/',
    'http://169.254.169.254/latest/meta-data/',
  ])('does not go to %s', async (url) => {
    await expect(post(client(), url.replace('PORT', String(receiver.port)))).rejects.toMatchObject({
      code: 'callback-forbidden',
    });
    expect(receiver.messages).toEqual([]);
  });

  it('goes to the address that was checked: a name is asked about once', async () => {
    let asked = 0;
    const resolve = async () => {
      asked += 1;
      // What a hostile name server would do: public when checked, this machine when called.
      return [{ address: asked === 1 ? '127.0.0.1' : '8.8.8.8', family: 4 }];
    };
    const url = `http://rebinding.example:${receiver.port}/`;
    await expect(post(client({ resolve }), url)).rejects.toMatchObject({ code: 'callback-forbidden' });
    expect(asked).toBe(1);
    expect(receiver.messages).toEqual([]);

    asked = 0;
    expect(await post(client({ resolve, allowPrivate: true }), url)).toBe(204);
    expect(asked).toBe(1);
  });

  it('is not redirected', async () => {
    receiver.answers.push({ status: 302, headers: { location: receiver.url } });
    expect(await post(client({ allowPrivate: true }), receiver.url)).toBe(302);
    expect(receiver.messages).toHaveLength(1);
  });

  it('gives up on a receiver that does not answer', async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}/`;
    await expect(post(client({ allowPrivate: true, timeoutMs: 50 }), url)).rejects.toMatchObject({
      code: 'deadline-exceeded',
    });
    silent.closeAllConnections();
    await new Promise((resolve) => silent.close(resolve));
  });
});

describe('the callback of a session', () => {
  let world: World;
  let agent: FakeAgent;
  beforeAll(async () => {
    world = await createWorld({ config: { allowPrivateCallbacks: true, callbackBackoffMs: 1 } });
    agent = await world.addAgent('i-one');
  });
  afterAll(() => world.close());

  const events = (): unknown[] => receiver.messages.map(({ body }) => body.event);

  it('is told of every change in order, with the request that made the session', async () => {
    const { id, name } = await world.create({ callbackUrl: receiver.url }, 'the-creating-request');
    await world.until(id, 'RUNNING');
    await world.manager.services.api.session.destroy({ session: id, forced: false }, world.ctx());
    await waitFor(() => events().includes('terminated'), { what: 'the last message' });
    expect(events().slice(0, 3)).toEqual(['enqueued', 'scheduled', 'preparing']);
    expect(events().slice(-3)).toEqual(['started', 'terminating', 'terminated']);
    expect(receiver.messages[0]?.body).toEqual({
      type: 'session_lifecycle',
      event: 'enqueued',
      session_id: id,
      session_name: name,
      when: expect.any(String),
      status: 'PENDING',
      reason: 'queued',
      request_id: 'the-creating-request',
    });
    expect(receiver.messages.at(-1)?.body).toMatchObject({ status: 'TERMINATED', result: 'undefined' });
    for (const { headers } of receiver.messages) expect(headers['x-backend-request-id']).toBe('the-creating-request');
  });

  it('is tried again while its receiver is away, and no longer when it refuses', async () => {
    agent.behaviour = 'stall';
    receiver.answers.push({ status: 503 }, { status: 500 }, { status: 204 }, { status: 400 });
    await world.create({ callbackUrl: receiver.url });
    await waitFor(() => events().includes('preparing'), { what: 'the third change is told' });
    expect(events()).toEqual(['enqueued', 'enqueued', 'enqueued', 'scheduled', 'preparing']);
    agent.behaviour = 'start';
  });

  it('is refused when it leads inside, which is the default', async () => {
    const careful = await createWorld();
    await careful.addAgent('i-one');
    const { session } = careful.manager.services.api;
    const inside = ['169.254.169.254', 'localhost', 'LocalHost.:81', 'a.localhost', 'printer.local', '[::1]', '10.1'];
    for (const host of inside) {
      const input = createSessionSchema.parse({ image: 'python', callbackUrl: `http://${host}/` });
      await expect(session.create(input, careful.ctx()), host).rejects.toMatchObject({
        code: 'callback-forbidden',
        data: { fields: { callbackUrl: 'is no public address' } },
      });
    }
    expect(await session.list({ all: true, limit: 10 }, careful.ctx())).toEqual([]);
    await careful.close();
  });
});
