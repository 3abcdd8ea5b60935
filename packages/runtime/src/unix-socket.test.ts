import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { listenPrivately } from './unix-socket.ts';

it('a socket whose name is too long for the system is refused, and not made under a part of it', async () => {
  const path = mkdtempSync(join(tmpdir(), 'socket-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  const server = createServer();
  await expect(listenPrivately(server, join(path, `${'x'.repeat(100)}.sock`))).rejects.toMatchObject({
    code: 'config-invalid',
    message: expect.stringContaining('too long'),
  });
  expect(server.listening).toBe(false);
});
