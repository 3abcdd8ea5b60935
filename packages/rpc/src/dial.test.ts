import { getEventListeners, once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { systemClock } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { dial, parseAddress } from './dial.ts';

it('leaves nothing at its signal when a peer cannot be reached: it is dialled again and again under the same one', async () => {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { signal } = new AbortController();
  const target = parseAddress(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const options = { maxFrameBytes: 1024, pingMs: 60_000, clock: systemClock, signal };
  await expect(dial(target, options)).rejects.toMatchObject({ code: 'server-unreachable' });
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  server.close();
});
