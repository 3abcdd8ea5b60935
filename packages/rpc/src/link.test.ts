import { newRequestId, type RequestId } from '@backend.ai/core';
import { currentRequestId, runWithRequest } from '@backend.ai/telemetry';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { RpcLimits } from './server.ts';
import { failureOf, type Transport, until, World } from './world.test.kit.ts';

interface Untyped {
  query(input?: unknown): Promise<unknown>;
}

/** The same behaviour over sockets and in one process. */
describe.each<Transport>(['websocket', 'in-process'])('a link (%s)', (transport) => {
  let world: World;
  const start = async (limits?: RpcLimits): Promise<World> => {
    world = await new World(transport, limits).start();
    return world;
  };
  afterEach(() => world.stop());

  describe('calls', () => {
    it('answers queries and mutations, also with rich values and with nothing', async () => {
      const { api } = (await start()).client();
      const rich = { at: new Date(5), set: new Set([1]), missing: undefined, big: 5n, text: 'line\nfeed' };
      expect(await api.echo.query(rich)).toEqual(rich);
      expect(await api.echo.query({ plain: [1, 'a', null, { b: true }] })).toEqual({
        plain: [1, 'a', null, { b: true }],
      });
      expect(await api.nothing.mutate()).toBeUndefined();
    });

    it('carries every JSON value unchanged', async () => {
      const { api } = (await start()).client();
      await fc.assert(
        fc.asyncProperty(fc.jsonValue(), async (value) => {
          expect(await api.echo.query(value)).toEqual(value);
        }),
        { numRuns: 50 },
      );
    });

    it('sends the calls of one turn in one message', async () => {
      await start();
      const raw = await world.rawPeer();
      let messages = 0;
      const { onMessage } = raw.duplex.handler;
      raw.duplex.handler.onMessage = (text) => {
        messages += 1;
        onMessage(text);
      };
      const frame = (id: number) =>
        `{"id":${id},"path":"echo","type":"query","headers":{"request_id":"r"},"input":{"json":${id}}}`;
      raw.duplex.send([1, 2, 3, 4].map(frame).join('\n'));
      await until(() => raw.frames.length === 4, 'all four were answered');
      expect(messages).toBe(1);
      raw.duplex.close('done');
    });

    it('tells the procedure who calls', async () => {
      const { api } = (await start()).client({ headers: () => ({ epoch: 7 }) });
      const seen = await api.ids.query({ turns: 0 });
      expect(seen.actor).toEqual({ kind: 'peer', peerKind: 'manager', peerId: 'm-1' });
      expect(seen.headers).toEqual({ request_id: seen.fromContext, epoch: 7 });
      const decidedBefore = await api.ids.query({ turns: 0 }, { context: { epoch: 6 } });
      expect(decidedBefore.headers.epoch).toBe(6);
    });

    it('refuses procedures that do not exist, wrong types and malformed input', async () => {
      const { api } = (await start()).client();
      const unknown = api as unknown as Record<'nowhere' | 'constructor' | 'nothing' | 'ids', Untyped>;
      expect(await failureOf(unknown.nowhere.query())).toMatchObject({ code: 'route-not-found' });
      expect(await failureOf(unknown.constructor.query())).toMatchObject({ code: 'route-not-found' });
      expect(await failureOf(unknown.nothing.query())).toMatchObject({ code: 'route-not-found' });
      const failure = await failureOf(unknown.ids.query({ turns: 'many' }));
      expect(failure).toMatchObject({ code: 'invalid-input', data: { fields: { turns: expect.any(String) } } });
    });

    it('refuses a peer what only users may do', async () => {
      const { api } = (await start()).client();
      expect(await failureOf(api.forUsers.query())).toMatchObject({ code: 'auth-missing' });
    });
  });

  describe('request ids', () => {
    it('keeps a thousand interleaved operations apart, on the server and in the answers', async () => {
      const { api } = (await start()).client();
      await fc.assert(
        fc.asyncProperty(fc.array(fc.nat(4), { minLength: 1_000, maxLength: 1_000 }), async (turns) => {
          const wrong = await Promise.all(
            turns.map((count) => {
              const requestId = newRequestId();
              return runWithRequest({ requestId }, async () => {
                const seen = await api.ids.query({ turns: count });
                const all = [seen.fromContext, seen.fromStorage, seen.headers.request_id, currentRequestId()];
                return all.every((id) => id === requestId) ? 0 : 1;
              });
            }),
          );
          expect(wrong.reduce<number>((sum, one) => sum + one, 0)).toBe(0);
        }),
        { numRuns: 2 },
      );
    });

    it('gives a call outside any request an id of its own', async () => {
      const { api } = (await start()).client();
      const [a, b] = await Promise.all([api.ids.query({ turns: 0 }), api.ids.query({ turns: 0 })]);
      expect(a.fromContext).not.toBe(b.fromContext);
    });

    it('takes the operation header before the legacy field, and echoes what it took', async () => {
      await start();
      const raw = await world.rawPeer();
      const ask = (id: number, ids: string): void =>
        raw.duplex.send(`{"id":${id},"path":"ids","type":"query",${ids},"input":{"json":{"turns":0}}}`);
      ask(1, '"headers":{"request_id":"from-headers"},"request_id":"from-legacy"');
      ask(2, '"headers":{},"request_id":"from-legacy"');
      ask(3, '"headers":{}');
      ask(4, '"headers":{"request_id":"not valid!"}');
      await until(() => raw.frames.length === 4, 'all were answered');
      const answers = new Map(raw.frames.map((frame) => [frame.id, frame]));
      const idsOf = (id: number) => {
        const frame = answers.get(id) as { request_id: string; result: { json: { fromContext: string } } };
        return [frame.request_id, frame.result.json.fromContext];
      };
      expect(idsOf(1)).toEqual(['from-headers', 'from-headers']);
      expect(idsOf(2)).toEqual(['from-legacy', 'from-legacy']);
      const [generated, seen] = idsOf(3);
      expect(generated).toMatch(/^[0-9a-f-]{36}$/);
      expect(seen).toBe(generated);
      expect(idsOf(4)[0]).not.toBe('not valid!');
      const replaced = world.logs.filter(({ message }) => message === 'invalid request id replaced');
      expect(replaced).toMatchObject([{ requestId: idsOf(4)[0], fields: { given: 'not valid!' } }]);
      raw.duplex.close('done');
    });

    it('refuses an epoch that is no whole number instead of ignoring it', async () => {
      await start();
      const raw = await world.rawPeer();
      raw.duplex.send('{"id":1,"path":"echo","type":"query","headers":{"epoch":"9"},"input":{"json":1}}');
      await until(() => raw.frames.length === 1, 'it was answered');
      expect(raw.frames[0]).toMatchObject({ error: { code: 'invalid-input' } });
      raw.duplex.close('done');
    });
  });

  describe('errors', () => {
    it('come out as the error that was thrown, without its detail', async () => {
      const { api } = (await start()).client();
      const failure = await runWithRequest({ requestId: 'req-1' as RequestId }, () =>
        failureOf(api.fail.query('no-agent')),
      );
      expect(failure).toMatchObject({
        code: 'no-agent',
        message: 'It failed as asked.',
        hint: 'Ask for something else.',
        data: { asked: 'no-agent' },
        requestId: 'req-1',
        detail: undefined,
      });
    });

    it('that are unexpected tell nothing but the request id, and are logged once under it', async () => {
      const { api } = (await start()).client();
      const failure = await runWithRequest({ requestId: 'req-2' as RequestId }, () => failureOf(api.crash.query()));
      expect(failure).toMatchObject({ code: 'internal', requestId: 'req-2' });
      expect(JSON.stringify(failure.toBody())).not.toContain('secret');
      const logged = world.logs.filter(({ level }) => level === 'error');
      expect(logged).toMatchObject([{ requestId: 'req-2', fields: { path: 'crash' } }]);
      expect(String(logged[0]?.fields.error)).toContain('secret path');
    });

    it('from behind the server keep the request id under which they were logged', async () => {
      const { api } = (await start()).client();
      expect(await failureOf(api.failInside.query())).toMatchObject({ code: 'internal', requestId: 'inner-request' });
      expect(world.logs.filter(({ level }) => level === 'error')).toEqual([]);
    });
  });

  describe('deadlines and cancellation', () => {
    it('ends an operation at its deadline: the signal aborts and the caller learns it from the server', async () => {
      const { api } = (await start()).client();
      await api.echo.query('connected');
      // The server's is earlier by as much as a quarter of a second.
      const failure = await failureOf(api.hang.query({ deaf: false }, { context: { deadlineMs: 2_500 } }));
      expect(failure).toMatchObject({ code: 'deadline-exceeded', message: 'hang did not answer in time.' });
      expect(world.observed.aborted).toMatchObject([{ code: 'deadline-exceeded' }]);
    });

    it('answers in time also for a procedure that does not listen to its signal', async () => {
      const { api } = (await start()).client();
      await api.echo.query('connected');
      const failure = await failureOf(api.hang.query({ deaf: true }, { context: { deadlineMs: 60 } }));
      expect(failure).toMatchObject({ code: 'deadline-exceeded' });
      expect(await api.echo.query('still here')).toBe('still here');
    });

    it('tells the caller that nothing was sent when no connection came about', async () => {
      await start();
      await world.server.close({ graceMs: 0 });
      const { api } = world.client();
      const failure = await failureOf(api.bump.mutate(undefined, { context: { deadlineMs: 60 } }));
      expect(failure).toMatchObject({ code: 'connection-lost', hint: 'Try again; nothing was changed.' });
    });

    it('aborts on the server what the caller cancels', async () => {
      const { api } = (await start()).client();
      const caller = new AbortController();
      const call = failureOf(api.hang.query({ deaf: false }, { signal: caller.signal }));
      await until(() => world.observed.began.includes('hang'), 'it began');
      caller.abort();
      expect(await call).toMatchObject({ code: 'cancelled' });
      await until(() => world.observed.aborted.length === 1, 'the signal aborted');
      expect(world.observed.aborted).toMatchObject([{ code: 'cancelled' }]);
      expect(world.logs.filter(({ level }) => level === 'error')).toEqual([]);
    });

    it('does not begin what was cancelled before', async () => {
      const { api } = (await start()).client();
      expect(await failureOf(api.echo.query(1, { signal: AbortSignal.abort() }))).toMatchObject({ code: 'cancelled' });
      expect(world.observed.began).toEqual([]);
    });
  });

  describe('subscriptions', () => {
    it('yield every item in order under the request id of the subscriber, then end', async () => {
      const { api } = (await start()).client();
      await runWithRequest({ requestId: 'sub-1' as RequestId }, async () => {
        const items: number[] = [];
        for await (const item of api.count.subscribe({ to: 500 })) {
          expect(item.requestId).toBe('sub-1');
          expect(currentRequestId()).toBe('sub-1');
          items.push(item.i);
        }
        expect(items).toEqual(Array.from({ length: 500 }, (_, i) => i + 1));
      });
    });

    it('call back in the context of the subscriber', async () => {
      const { api } = (await start()).client();
      const seen = await new Promise<unknown[]>((resolve) => {
        const ids: unknown[] = [];
        runWithRequest({ requestId: 'sub-2' as RequestId }, () => {
          api.count.subscribe(
            { to: 2 },
            { onData: () => ids.push(currentRequestId()), onComplete: () => resolve(ids) },
          );
        });
      });
      expect(seen).toEqual(['sub-2', 'sub-2']);
    });

    it('stop at the server when the subscriber leaves', async () => {
      const { api } = (await start()).client();
      const items: number[] = [];
      for await (const item of api.ticks.subscribe()) {
        items.push(item);
        if (item === 3) break;
      }
      expect(items).toEqual([1, 2, 3]);
      await until(() => world.observed.subscriptionsEnded === 1, 'the generator ended');
    });

    it('end with the error that the server throws', async () => {
      const { api } = (await start()).client();
      const items: number[] = [];
      const failure = await failureOf(
        (async () => {
          for await (const item of api.count.subscribe({ to: 5, failAt: 3 })) items.push(item.i);
        })(),
      );
      expect(items).toEqual([1, 2]);
      expect(failure).toMatchObject({ code: 'kernel-lost' });
    });

    it('are not pulled further while the other end does not read', async () => {
      await start();
      const raw = await world.rawPeer();
      raw.duplex.pause();
      raw.duplex.send('{"id":1,"path":"flood","type":"subscription","headers":{},"input":{"json":100000}}');
      await until(() => world.observed.pulled > 10, 'it was pulled');
      let before = -1;
      await until(() => {
        const still = before === world.observed.pulled;
        before = world.observed.pulled;
        return still;
      }, 'the server paused');
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
      const paused = world.observed.pulled;
      // A megabyte in our queue, and what the socket buffers of the kernel take.
      expect(paused).toBeLessThan(200);
      raw.duplex.resume();
      await until(() => world.observed.pulled > paused + 50, 'it went on');
      raw.duplex.terminate();
    });
  });

  describe('limits', () => {
    it('fail only the operation that is too large, in either direction', async () => {
      const { api } = (await start({ maxFrameBytes: 10_000 })).client();
      const slow = api.ids.query({ turns: 50 });
      expect(await failureOf(api.measure.query('ü'.repeat(6_000)))).toMatchObject({
        code: 'payload-too-large',
        data: { limitBytes: 10_000 },
      });
      expect(await failureOf(api.big.query(20_000))).toMatchObject({ code: 'payload-too-large' });
      expect(await api.big.query(9_000)).toHaveLength(9_000);
      expect((await slow).actor).toBeDefined();
    });

    it('fail an oversized operation of a foreign caller by its id', async () => {
      await start({ maxFrameBytes: 10_000 });
      const raw = await world.rawPeer();
      const huge = 'z'.repeat(15_000);
      raw.duplex.send(
        `{"id":4,"path":"echo","type":"query","headers":{"request_id":"huge-1"},"input":{"json":"${huge}"}}\n{"id":5,"path":"echo","type":"query","headers":{},"input":{"json":1}}`,
      );
      await until(() => raw.frames.length === 2, 'both were answered');
      expect(raw.frames).toMatchObject([
        { id: 4, request_id: 'huge-1', error: { code: 'payload-too-large' } },
        { id: 5, result: { json: 1 } },
      ]);
      raw.duplex.close('done');
    });

    it('make operations wait at the caller while the server runs as many as it accepts', async () => {
      const { api } = (await start({ maxConcurrent: 4 })).client();
      const answers = await Promise.all(Array.from({ length: 100 }, () => api.ids.query({ turns: 2 })));
      expect(answers).toHaveLength(100);
    });

    it('refuse more waiting operations than agreed', async () => {
      await start();
      await world.server.close({ graceMs: 0 });
      const client = world.client({ limits: { maxQueued: 2 }, defaultDeadlineMs: null });
      const waiting = [failureOf(client.api.echo.query(1)), failureOf(client.api.echo.query(2))];
      expect(await failureOf(client.api.echo.query(3))).toMatchObject({ code: 'rate-limited' });
      await client.close();
      expect((await Promise.all(waiting)).map(({ code }) => code)).toEqual(['connection-lost', 'connection-lost']);
    });

    it('refuse what a flooding caller sends beyond them, and serve the rest', async () => {
      await start({ maxConcurrent: 8 });
      const raw = await world.rawPeer();
      const frame = (id: number) =>
        `{"id":${id},"path":"ids","type":"query","headers":{},"input":{"json":{"turns":3}}}`;
      raw.duplex.send(Array.from({ length: 50 }, (_, i) => frame(i + 1)).join('\n'));
      await until(() => raw.frames.length === 50, 'all were answered');
      const refused = raw.frames.filter(
        ({ error }) => (error as { code: string } | undefined)?.code === 'rate-limited',
      );
      expect(refused).toHaveLength(42);
      raw.duplex.close('done');
    });

    it('stop reading from a caller that does not read its answers', async () => {
      await start();
      const raw = await world.rawPeer();
      raw.duplex.pause();
      const text = 'q'.repeat(50_000);
      const total = 600;
      for (let id = 1; id <= total; id++) {
        // One message in each turn, as from a caller that is not in a hurry.
        await new Promise((resolve) => setImmediate(resolve));
        raw.duplex.send(`{"id":${id},"path":"echo","type":"query","headers":{},"input":{"json":"${text}"}}`);
      }
      let before = -1;
      await until(() => {
        const still = before > 0 && before === world.observed.began.length;
        before = world.observed.began.length;
        return still;
      }, 'the server paused');
      expect(world.observed.began.length).toBeLessThan(total);
      raw.duplex.resume();
      await until(() => raw.frames.length === total, 'all were answered in the end');
      raw.duplex.close('done');
    });
  });

  describe('lost connections', () => {
    it('send idempotent operations again under the same request id, and fail the others', async () => {
      const client = (await start()).client();
      const put = runWithRequest({ requestId: 'put-1' as RequestId }, () => client.api.put.mutate());
      const bump = failureOf(runWithRequest({ requestId: 'bump-1' as RequestId }, () => client.api.bump.mutate()));
      const subscription = failureOf(
        (async () => {
          for await (const _ of client.api.ticks.subscribe());
        })(),
      );
      await until(() => world.observed.changes.length === 2, 'both began');
      world.cutConnections();
      expect(await bump).toMatchObject({ code: 'connection-lost' });
      expect(await subscription).toMatchObject({ code: 'connection-lost' });
      await until(() => world.observed.changes.length === 3, 'one began again');
      world.observed.release();
      expect(await put).toBe('put');
      expect(world.observed.changes.toSorted()).toEqual(['bump-1', 'put-1', 'put-1']);
    });

    it('do not repeat for ever what takes its server down', async () => {
      const client = (await start()).client();
      const put = failureOf(client.api.put.mutate(undefined, { context: { deadlineMs: null } }));
      for (let times = 1; times <= 3; times++) {
        await until(() => world.observed.changes.length === times, `it began ${times} times`);
        world.cutConnections();
      }
      expect(await put).toMatchObject({ code: 'connection-lost' });
      expect(world.observed.changes).toHaveLength(3);
    });

    it('abort on the server what nobody waits for any more', async () => {
      const client = (await start()).client();
      const call = failureOf(client.api.hang.query({ deaf: false }));
      await until(() => world.observed.began.includes('hang'), 'it began');
      await client.close();
      expect(await call).toMatchObject({ code: 'connection-lost' });
      await until(() => world.observed.aborted.length === 1, 'the signal aborted');
      expect(await failureOf(client.api.echo.query(1))).toMatchObject({ code: 'shutting-down' });
    });

    it('are made good when the server comes back, and tell their state', async () => {
      const client = (await start()).client();
      const states: string[] = [];
      client.onStateChange((state) => states.push(state));
      await client.connect();
      await world.server.close({ graceMs: 0 });
      await until(() => client.state === 'waiting', 'the loss was noticed');
      expect(await failureOf(client.connect())).toMatchObject({ code: 'server-unreachable' });
      const call = client.api.echo.query('queued meanwhile');
      await world.start();
      expect(await call).toBe('queued meanwhile');
      expect(states.slice(0, 3)).toEqual(['connecting', 'ready', 'waiting']);
      expect(states.at(-1)).toBe('ready');
    });

    it('follow a frame that cannot be decoded, for this peer only', async () => {
      const client = (await start()).client();
      await client.connect();
      const garbage = ['garbage', '{}', '[]', '{"id":"1"}', '{"id":1,"type":"query"}', '', '\n', 'null'];
      for (const text of garbage) {
        const raw = await world.rawPeer();
        raw.duplex.send(text);
        await until(() => raw.closed !== undefined, `${JSON.stringify(text)} closed the connection`);
      }
      expect(await client.api.echo.query('fine')).toBe('fine');
    });
  });

  describe('closing a server', () => {
    it('lets running operations end and refuses new ones', async () => {
      const client = (await start()).client();
      const running = client.api.bump.mutate();
      await until(() => world.observed.changes.length === 1, 'it began');
      const closed = world.server.close({ graceMs: 5_000 });
      expect(await failureOf(client.api.echo.query(1))).toMatchObject({ code: 'shutting-down' });
      world.observed.release();
      expect(await running).toBe('bumped');
      await closed;
    });

    it('gives up on those that take longer than the grace, and on subscriptions at once', async () => {
      const client = (await start()).client();
      const running = failureOf(client.api.hang.query({ deaf: true }));
      const subscription = failureOf(
        (async () => {
          for await (const _ of client.api.ticks.subscribe());
        })(),
      );
      await until(() => world.observed.began.includes('hang'), 'it began');
      const closed = world.server.close({ graceMs: 50 });
      expect(await subscription).toMatchObject({ code: 'shutting-down' });
      expect(await running).toMatchObject({ code: 'shutting-down' });
      await closed;
      expect(world.observed.aborted).toMatchObject([{ code: 'shutting-down' }]);
      expect(world.server.connected()).toEqual([]);
    });

    it('can be done twice', async () => {
      await start();
      await Promise.all([world.server.close({ graceMs: 10 }), world.server.close({ graceMs: 10 })]);
      expect(() => world.server.listenInProcess('late')).toThrow('closed');
    });
  });
});
