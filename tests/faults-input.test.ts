import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import { launcher, runCommand } from './support/command.ts';
import { signedRequest } from './support/signed-request.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

interface FailedDocument {
  error: { code: string; message: string; hint: string; category: string };
  requestId: string;
}

/** Asserts one clear error: a code, a hint, a request id that is in the cluster's log, and no stack trace. */
async function fails(args: readonly string[], env: Record<string, string> = {}): Promise<FailedDocument> {
  const result = await cluster.cli([...args, '--json'], { env });
  expect(result.code).not.toBe(0);
  expect(result.stdout + result.stderr).not.toMatch(/\n\s+at .*:\d+:\d+/);
  const document = JSON.parse(result.stdout) as FailedDocument;
  expect(document.error.message).toMatch(/\S/);
  expect(document.error.hint).toMatch(/\S/);
  expect(document.requestId).toMatch(/^[A-Za-z0-9._:-]{1,128}$/);
  expect(cluster.logs().filter((record) => record.request_id === document.requestId)).not.toEqual([]);
  return document;
}

async function sessionsLeft(): Promise<number> {
  const { sessions } = await cluster.json<{ sessions: unknown[] }>(['ps']);
  return sessions.length;
}

describe('bad input', () => {
  test('a wrong secret key is told apart from a wrong access key', async () => {
    expect((await fails(['ps'], { ...env(), BACKEND_SECRET_KEY: 'wrong' })).error.code).toBe('auth-bad-signature');
    expect((await fails(['ps'], { ...env(), BACKEND_ACCESS_KEY: 'NOBODY' })).error.code).toBe('auth-unknown-key');
  });

  test('a skewed clock is named', async () => {
    const { status, body } = await signedRequest(cluster.credentials, 'GET', '/session/nothing', {
      date: new Date(Date.now() - 20 * 60_000),
    });
    expect(status).toBe(400);
    expect(body).toMatchObject({ msg: 'Date/time sync error', error_code: 'auth-clock-skew' });
  });

  test('an unknown image, too much memory and an invalid name are refused before anything is stored', async () => {
    expect((await fails(['session', 'create', 'no-such-image'])).error.code).toBe('unknown-image');
    expect((await fails(['session', 'create', '-r', 'mem=100t', 'python'])).error.code).toBe('insufficient-capacity');
    expect((await fails(['session', 'create', '--name', 'a!', 'python'])).error.code).toBe('invalid-session-name');
    expect((await fails(['session', 'create', '-r', 'tachyon=1', 'python'])).error.code).toBe('unknown-slot');
    expect(await sessionsLeft()).toBe(0);
  });

  test('an unknown session and an unknown command are one sentence each', async () => {
    expect((await fails(['session', 'info', 'nowhere'])).error.code).toBe('session-not-found');
    const unknown = await cluster.cli(['no-such-command', '--json']);
    expect(unknown.code).toBe(2);
    expect(JSON.parse(unknown.stdout)).toMatchObject({
      error: { code: 'invalid-input', hint: expect.stringMatching(/--help$/) as string },
    });
    expect(unknown.stderr).not.toMatch(/\n\s+at /);
  });

  test('paths that leave the home folder are refused in both directions', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'upload-'));
    const file = join(folder, 'x.txt');
    writeFileSync(file, 'x');
    try {
      await cluster.json(['session', 'create', '--name', 'escapes', 'shell']);
      const code = 'ln -s /etc up; ln -s ../../.. out; mkfifo pipe; mkdir -p inside; ln -s inside alias';
      await cluster.json(['session', 'exec', 'escapes', '-c', code]);
      for (const path of ['../x', '/etc/x', 'up/x', 'out/x', 'inside/../../x']) {
        const failed = await fails(['session', 'upload', 'escapes', file, '--dst', path]);
        expect(failed.error.code, path).toBe('invalid-path');
      }
      for (const path of ['../kernel.json', '/etc/passwd', 'up/passwd', 'out/etc/passwd', 'pipe']) {
        const failed = await fails(['session', 'download', 'escapes', path, '--dest', folder]);
        expect(failed.error.code, path).toBe('invalid-path');
      }
      expect((await fails(['session', 'download', 'escapes', 'absent', '--dest', folder])).error.code).toBe(
        'file-not-found',
      );
    } finally {
      await cluster.json(['session', 'destroy', 'escapes']);
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('a second cluster', () => {
  test('on the same data directory is refused with the pid of the first', async () => {
    const result = await cluster.cli(['up', '--port', '0', '--backend', 'process', '--json']);
    expect(result.code).toBe(1);
    expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: 'data-directory-locked' } });
    expect(result.stdout).toContain(String(cluster.pid));
    expect((await cluster.cli(['ps'])).code).toBe(0);
  });

  test('on a port in use is refused and names the port', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const folder = mkdtempSync(join(tmpdir(), 'port-'));
    try {
      const result = await runCommand(launcher, ['up', '--port', String(port), '--backend', 'process', '--json'], {
        env: { BACKEND_DATA_DIR: join(folder, 'data') },
      });
      expect(result.code).toBe(1);
      const document = JSON.parse(result.stdout) as FailedDocument;
      expect(document.error.code).toBe('port-in-use');
      expect(document.error.message).toContain(String(port));
    } finally {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

function env(): Record<string, string> {
  const { endpoint, accessKey, secretKey } = cluster.credentials;
  return { BACKEND_ENDPOINT: endpoint, BACKEND_ACCESS_KEY: accessKey, BACKEND_SECRET_KEY: secretKey };
}
