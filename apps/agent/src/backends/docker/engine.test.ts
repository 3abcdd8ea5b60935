import { createServer } from 'node:http';
import { join } from 'node:path';
import { systemClock } from '@backend.ai/core';
import { FakeClock, tempDirectory, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { Engine } from './engine.ts';

/** Answers as it is told to; undefined: never; 'lost': by the end of the connection. */
async function engineAt(socket: string, answer: () => number | 'lost' | undefined, body: object = {}) {
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    const status = answer();
    if (status === 'lost') response.destroy();
    else if (status !== undefined)
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked: () => asked };
}

it('an outage begins with a call that finds nobody and ends with one that somebody does, be it by a refusal', async () => {
  const socketPath = join(await tempDirectory(), 'engine.sock');
  const engine = new Engine({ socketPath, clock: systemClock });
  expect(engine.outage).toBeUndefined();
  await expect(engine.info()).rejects.toMatchObject({ code: 'engine-unavailable' });
  expect(engine.outage).toMatchObject({ code: 'engine-unavailable', cause: { code: 'ENOENT' } });
  await engineAt(socketPath, () => 500);
  await expect(engine.info()).rejects.toMatchObject({ code: 'engine-failed' });
  expect(engine.outage).toBeUndefined();
});

it('an engine whose disk is full is told apart from one that fails', async () => {
  const socketPath = join(await tempDirectory(), 'engine.sock');
  const message = 'mkdir /var/lib/docker/overlay2/x: no space left on device';
  await engineAt(socketPath, () => 500, { message });
  const engine = new Engine({ socketPath, clock: systemClock });
  const refused = engine.createContainer({}, new AbortController().signal);
  await expect(refused).rejects.toMatchObject({ code: 'disk-full', message: expect.stringContaining(message) });
});

it('an engine that has answered is away when it loses two calls in a row, of which the second may be a recheck', async () => {
  const socketPath = join(await tempDirectory(), 'engine.sock');
  let answer: 200 | 'lost' = 200;
  const { asked } = await engineAt(socketPath, () => answer);
  const engine = new Engine({ socketPath, clock: systemClock });
  const lose = async (): Promise<void> => {
    answer = 'lost';
    await expect(engine.info()).rejects.toMatchObject({ code: 'engine-unavailable', cause: { code: 'ECONNRESET' } });
  };
  await engine.info();
  await lose();
  expect(engine.outage).toBeUndefined();
  answer = 200;
  await engine.recheck();
  await lose();
  expect(engine.outage).toBeUndefined();
  await engine.recheck();
  expect(engine.outage).toMatchObject({ code: 'engine-unavailable', cause: { code: 'ECONNRESET' } });
  answer = 200;
  await engine.recheck();
  expect(engine.outage).toBeUndefined();
  const before = asked();
  await engine.recheck();
  expect(asked()).toBe(before);
});

it('an engine that has never answered, and lets a call run out of time, counts as away until it answers', async () => {
  const socketPath = join(await tempDirectory(), 'engine.sock');
  const clock = new FakeClock();
  let hangs = true;
  const { asked } = await engineAt(socketPath, () => (hangs ? undefined : 200));
  const engine = new Engine({ socketPath, clock, callTimeoutMs: 1_000 });
  const late = expect(engine.info()).rejects.toThrow('did not describe itself within 1 s');
  await waitFor(() => asked() === 1);
  await clock.advance(1_000);
  await late;
  expect(engine.outage?.cause).toMatchObject({ message: expect.stringContaining('within 1 s') });
  hangs = false;
  await engine.info();
  expect(engine.outage).toBeUndefined();
});
