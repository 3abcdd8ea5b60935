import { createServer, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { Secret } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { testCertificate } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { dependenciesToOpen } from '../src/stores.ts';

/** Takes TLS connections and ends them at their first words, which it keeps: only who trusts it says any. */
async function tlsServer({ postgres = false } = {}): Promise<{ at: string; heard: string[] }> {
  const heard: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((raw) => {
    sockets.add(raw);
    raw.on('error', () => {}).on('close', () => sockets.delete(raw));
    const secure = (): void => {
      const socket = new TLSSocket(raw, { isServer: true, ...testCertificate, ALPNProtocols: ['h2'] });
      socket.on('error', () => {});
      socket.once('data', (bytes: Buffer) => {
        heard.push(bytes.toString('latin1'));
        if (postgres) socket.write(refusal());
        else socket.destroy();
      });
    };
    if (!postgres) return secure();
    raw.once('data', () => {
      raw.write('S');
      secure();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { at: `127.0.0.1:${(server.address() as { port: number }).port}`, heard };
}

/** PostgreSQL's word for a wrong password: at one who says nothing, the client tries on and on. */
function refusal(): Buffer {
  const fields = Buffer.from('SFATAL\0C28P01\0Mno\0\0');
  const head = Buffer.from('E\0\0\0\0');
  head.writeUInt32BE(4 + fields.length, 1);
  return Buffer.concat([head, fields]);
}

it.each([
  { name: 'PostgreSQL', greeting: /user\0backend/ },
  { name: 'Redis', greeting: /info/i },
  { name: 'etcd', greeting: /^PRI \* HTTP\/2/ },
])('$name of a private authority is talked to when that is configured, and not without', async ({ name, greeting }) => {
  const { at, heard } = await tlsServer({ postgres: name === 'PostgreSQL' });
  const check = async (ca: string | undefined): Promise<void> => {
    const options = {
      config: { installationKeyFile: '/nowhere' },
      database: { url: Secret.url(`postgres://backend@${at}/x?sslmode=verify-full`), ca, maxConnections: 1 },
      redis: { url: Secret.url(`rediss://${at}`), ca },
      etcd: { endpoints: [`https://${at}`], user: undefined, password: undefined, ca, namespace: '/x' },
    };
    const dependency = dependenciesToOpen(options, silentLogger).find((each) => each.name === name);
    // It is no real server: opening fails in any case.
    await expect(dependency?.check(new AbortController().signal)).rejects.toThrow(at);
  };
  await check(undefined);
  expect(heard).toEqual([]);
  await check(testCertificate.cert);
  expect(heard[0]).toMatch(greeting);
});
