import { createServer, type Server, type Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { CallContext, TransferTicket, UserActor } from '@backend.ai/contract';
import { AppError, newRequestId } from '@backend.ai/core';
import { encodeHead, readHead } from '@backend.ai/rpc';
import { waitFor } from '@backend.ai/testing';
import { afterEach, expect, it } from 'vitest';
import { FileService } from '../src/services/files/file-service.ts';
import { SessionDataPort } from '../src/services/kernels/session-data-port.ts';

/** A data port whose side of the conversation each test writes. */
let server: Server | undefined;
const sockets = new Set<Socket>();
/** Transfers that keep their session in use. */
let inUse = 0;
afterEach(async () => {
  await waitFor(() => inUse === 0, { what: 'no transfer in use' });
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
});

async function filesOver(serve: (socket: Socket) => Promise<void>): Promise<FileService> {
  server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    void readHead(socket).then(() => serve(socket));
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const ticket: TransferTicket = { ticket: 't', address: `127.0.0.1:${port}`, size: null, expiresAt: '' };
  inUse = 0;
  const openTransfer = async () => {
    inUse += 1;
    const done = (): void => {
      inUse -= 1;
    };
    return { ticket, done };
  };
  return new FileService(new SessionDataPort({ openTransfer }), {
    recorded: (_request, _actor, work) => work({} as never),
  });
}

const actor = { kind: 'user', accessKey: 'A' } as UserActor;
const ctx = (signal?: AbortSignal): CallContext => ({ requestId: newRequestId(), actor, headers: {}, signal });
const target = (size: number) => ({ size, mode: 0o644 });

it('uploads exactly the announced bytes and waits for the confirmation', async () => {
  let got = Buffer.alloc(0);
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true }));
    got = await buffer(socket.iterator({ destroyOnReturn: false }));
    socket.end(encodeHead({ ok: true }));
  });
  const bytes = Buffer.alloc(300_000, 7);
  await files.upload('s', 'a', target(bytes.length), Readable.from([bytes.subarray(0, 10), bytes.subarray(10)]), ctx());
  expect(got.equals(bytes)).toBe(true);
});

it('tells what the agent refuses an upload with, also in the middle of it', async () => {
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true }));
    socket.end(encodeHead({ ok: false, error: new AppError('payload-too-large', 'The disk is full.').toBody() }));
    socket.resume();
  });
  const endless = new Readable({ read: () => {} });
  endless.push(Buffer.alloc(1000));
  await expect(files.upload('s', 'a', target(10_000_000), endless, ctx())).rejects.toMatchObject({
    code: 'payload-too-large',
  });
});

it('refuses an upload that is shorter than announced, and does not confirm it to the agent', async () => {
  let complete: boolean | undefined;
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true }));
    complete = await buffer(socket).then(
      () => true,
      () => false,
    );
  });
  await expect(files.upload('s', 'a', target(100), Readable.from([Buffer.alloc(50)]), ctx())).rejects.toMatchObject({
    code: 'connection-lost',
  });
  expect(complete).not.toBe(true);
});

it('downloads with the size known beforehand', async () => {
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true, size: 5 }));
    socket.end('hello');
  });
  const { stream, size } = await files.download('s', 'a', ctx());
  expect(size).toBe(5);
  expect((await buffer(stream)).toString()).toBe('hello');
});

it('fails a download that breaks off', async () => {
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true, size: 5 }));
    socket.end('hel');
  });
  const { stream } = await files.download('s', 'a', ctx());
  await expect(buffer(stream)).rejects.toMatchObject({ code: 'connection-lost' });
});

it('fails an archive without its end', async () => {
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true, size: null }));
    socket.end(Buffer.alloc(512, 1));
  });
  const { stream } = await files.archive('s', '.', 0, ctx());
  await expect(buffer(stream)).rejects.toMatchObject({ code: 'connection-lost' });
});

it('stops when the caller goes away', async () => {
  const files = await filesOver(async (socket) => {
    socket.write(encodeHead({ ok: true, size: 1_000_000 }));
    socket.write('some');
  });
  const gone = new AbortController();
  const { stream } = await files.download('s', 'a', ctx(gone.signal));
  const reading = buffer(stream.pipe(new PassThrough())).catch(() => 'broken');
  stream.on('error', () => {});
  gone.abort();
  await new Promise((resolve) => stream.once('close', resolve));
  expect(stream.destroyed).toBe(true);
  void reading;
});

it('says so when the data port does not answer', async () => {
  const files = await filesOver(async () => {});
  await new Promise<void>((resolve) => server!.close(() => resolve()));
  server = undefined;
  await expect(files.download('s', 'a', ctx())).rejects.toMatchObject({ code: 'agent-unreachable' });
});
