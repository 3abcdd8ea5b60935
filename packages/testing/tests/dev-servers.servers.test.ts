import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { portOwner } from '@backend.ai/runtime';
import { describe, expect, inject, it, onTestFinished } from 'vitest';
import { freePort, requirePort, startEtcd, startRedis } from '../../../scripts/dev-servers/index.ts';
import { tempDirectory } from '../src/index.ts';

/** One exchange with Redis: what it answered within the time, or null. */
async function ask(port: number, command: string, timeoutMs = 30_000): Promise<string | null> {
  const socket = connect(port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  socket.setEncoding('utf8').write(`AUTH secret\r\n${command}\r\nQUIT\r\n`);
  let answer = '';
  socket.on('data', (text: string) => {
    answer += text;
  });
  try {
    await once(socket, 'close', { signal: AbortSignal.timeout(timeoutMs) });
    return answer;
  } catch {
    return null;
  }
}

describe('servers for development and tests', () => {
  it('are provided to every file of this project, each on a port of its own below those of outgoing connections', () => {
    const { postgresUrl, redisUrl, etcdUrl } = inject('servers');
    const ports = [postgresUrl, redisUrl, etcdUrl].map((url) => Number(new URL(url).port));
    expect(new Set(ports).size).toBe(3);
    for (const port of ports) expect(port).toBeLessThan(32_768);
  });

  it('come back on the same port with the same data after a stop, a kill and a restart', async () => {
    const redis = await startRedis({ directory: await tempDirectory(), password: 'secret' });
    onTestFinished(() => redis.stop());
    expect(await ask(redis.port, 'SET key value')).toContain('+OK');
    await redis.stop();
    await redis.start();
    expect(await ask(redis.port, 'GET key')).toContain('value');
    const { pid } = redis;
    await redis.restart();
    expect(redis.pid).not.toBe(pid);
    expect(await ask(redis.port, 'GET key')).toContain('value');
    await redis.kill();
    expect(await portOwner(redis.port)).toBeUndefined();
    await redis.start();
    expect(await ask(redis.port, 'GET key')).toContain('value');
  });

  it('answer nothing while they are paused', async () => {
    const redis = await startRedis({ directory: await tempDirectory(), password: 'secret' });
    onTestFinished(() => redis.stop());
    await redis.pause();
    expect(await ask(redis.port, 'PING', 100)).toBeNull();
    await redis.resume();
    expect(await ask(redis.port, 'PING')).toContain('+PONG');
  });

  it('have no thread that goes on once they are paused, however busy they are', async () => {
    const etcd = await startEtcd({ directory: await tempDirectory() });
    onTestFinished(() => etcd.kill());
    const state = (thread: string): string | undefined =>
      readFileSync(`/proc/${etcd.pid}/task/${thread}/stat`, 'utf8').split(') ').at(-1)?.[0];
    for (let round = 0; round < 6; round++) {
      const asked = Promise.allSettled(Array.from({ length: 32 }, () => fetch(`${etcd.url}/metrics`)));
      await etcd.pause();
      const states = readdirSync(`/proc/${etcd.pid}/task`).map(state);
      expect(new Set(states)).toEqual(new Set(['T']));
      await etcd.resume();
      await asked;
    }
  });

  it('are found again by their directory', async () => {
    const options = { directory: await tempDirectory(), port: await freePort(), password: 'secret' };
    const first = await startRedis(options);
    onTestFinished(() => first.stop());
    expect((await startRedis(options)).pid).toBe(first.pid);
  });

  it('name the process that has the wanted port', async () => {
    const redis = await startRedis({ directory: await tempDirectory(), password: 'secret' });
    onTestFinished(() => redis.stop());
    await expect(requirePort(redis.port, 'a test')).rejects.toMatchObject({
      code: 'port-in-use',
      message: expect.stringMatching(new RegExp(`process ${redis.pid} \\(.*redis-server`)),
    });
  });

  it('keep passwords out of the list of processes', async () => {
    const redis = await startRedis({ directory: await tempDirectory(), password: 'secret' });
    onTestFinished(() => redis.stop());
    expect(await readFile(`/proc/${redis.pid}/cmdline`, 'utf8')).not.toContain('secret');
  });
});
