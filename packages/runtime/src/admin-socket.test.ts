import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError, deferred, newRequestId } from '@backend.ai/core';
import { currentRequestId, silentLogger } from '@backend.ai/telemetry';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AdminSocket, callAdminSocket, NoAnswer } from './admin-socket.ts';
import { withSocketPath } from './unix-socket.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'admin-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

let released = deferred<void>();
beforeEach(() => {
  released = deferred();
});

const handlers = {
  echo: (params: Record<string, unknown>) => ({ params, requestId: currentRequestId() }),
  refuse: () => {
    throw new AppError('state-conflict', 'Not now.');
  },
  away: () => {
    throw new AppError('server-unreachable', 'The database cannot be reached.');
  },
  hang: () => released.promise,
  break: () => {
    throw new Error('secret inside');
  },
};

describe.each([
  ['a short path', 'a.sock'],
  ['a path too long for an address', `${'d'.repeat(60)}/${'e'.repeat(60)}/a.sock`],
])('an admin socket on %s', (_title, name) => {
  let socket: AdminSocket;
  let path: string;
  beforeEach(async () => {
    path = join(dir, name);
    socket = new AdminSocket(path, handlers, silentLogger);
    await socket.start();
  });
  afterEach(() => socket.stop());

  test('answers under the id of the request', async () => {
    const requestId = newRequestId();
    expect(await callAdminSocket(path, 'echo', { a: 1 }, { requestId })).toEqual({ params: { a: 1 }, requestId });
  });

  test('is closed to everybody but its owner', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('passes our errors on and hides what is unexpected', async () => {
    await expect(callAdminSocket(path, 'refuse')).rejects.toMatchObject({
      code: 'state-conflict',
      message: 'Not now.',
    });
    await expect(callAdminSocket(path, 'break')).rejects.toMatchObject({ code: 'internal' });
    await expect(callAdminSocket(path, 'break')).rejects.not.toThrow(/secret/);
    await expect(callAdminSocket(path, 'toString')).rejects.toMatchObject({ code: 'route-not-found' });
  });

  test('that somebody else is away is told apart from that nobody answers here', async () => {
    await expect(callAdminSocket(path, 'away')).rejects.toMatchObject({ code: 'server-unreachable' });
    await expect(callAdminSocket(path, 'away')).rejects.not.toBeInstanceOf(NoAnswer);
    await expect(callAdminSocket(path, 'hang', {}, { timeoutMs: 50 })).rejects.toMatchObject({ why: 'silent' });
    released.resolve();
    await expect(callAdminSocket(`${path}.other`, 'echo')).rejects.toMatchObject({ why: 'absent' });
  });

  test('answers garbage with an error and lives on', async () => {
    const raw = withSocketPath(path, (short) => createConnection(short));
    const answer = await new Promise<string>((resolve) => {
      raw.once('data', (data) => resolve(String(data)));
      raw.write('not json\n');
    });
    raw.destroy();
    expect(JSON.parse(answer)).toMatchObject({ error: { code: 'malformed-body' } });
    expect(await callAdminSocket(path, 'echo')).toMatchObject({ params: {} });
  });

  test('replaces the socket file of a killed owner', async () => {
    const second = new AdminSocket(path, handlers, silentLogger);
    await second.start();
    expect(await callAdminSocket(path, 'echo')).toMatchObject({ params: {} });
    await second.stop();
  });
});

test('a request that stops the service is answered', async () => {
  const path = join(dir, 'b.sock');
  const socket: AdminSocket = new AdminSocket(path, { stop: () => void socket.stop() }, silentLogger);
  await socket.start();
  expect(await callAdminSocket(path, 'stop')).toBeNull();
});

test('an absent service is unreachable', async () => {
  await expect(callAdminSocket(join(dir, 'nobody.sock'), 'echo')).rejects.toMatchObject({ code: 'server-unreachable' });
});
