import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { examineEngine, isSupported, usualEngineSocket } from './engine-report.ts';

async function fakeEngine(answers: Record<string, unknown>): Promise<string> {
  const socket = join(await tempDirectory(), 'engine.sock');
  const server: Server = createServer(({ url = '' }, response) => {
    const answer = answers[url.split('?')[0]!];
    if (answer === undefined) response.writeHead(500).end('{"message":"broken"}');
    else response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  onTestFinished(() => void server.close());
  return socket;
}

it.each([
  [['/var/run/docker.sock', '/run/podman/podman.sock'], '/var/run/docker.sock'],
  [['/run/user/7/podman/podman.sock', '/run/podman/podman.sock'], '/run/user/7/podman/podman.sock'],
  [['/run/podman/podman.sock'], '/run/podman/podman.sock'],
  [[], '/var/run/docker.sock'],
])('of the sockets %j the engine is looked for at %s', (present, socket) => {
  expect(usualEngineSocket({ XDG_RUNTIME_DIR: '/run/user/7' }, (path) => present.includes(path))).toBe(socket);
});

describe('the report of a container engine', () => {
  it('knows Podman, a swarm and the images for sessions', async () => {
    const socket = await fakeEngine({
      '/version': { Version: '5.0.1', ApiVersion: '1.41', Components: [{ Name: 'Podman Engine' }] },
      '/info': {
        ...{ CgroupVersion: '2', Driver: 'overlay', Swarm: { LocalNodeState: 'active' } },
        ...{ Runtimes: { crun: {}, nvidia: {} }, SecurityOptions: ['name=seccomp', 'name=rootless'] },
      },
      '/images/json': [{ RepoTags: ['b:1', '<none>:<none>'] }, { RepoTags: null }, { RepoTags: ['a:1'] }],
    });
    const report = await examineEngine(socket);
    expect(report).toEqual({
      ...{ state: 'ready', socket, product: 'Podman', version: '5.0.1', apiVersion: '1.41' },
      ...{ cgroupVersion: '2', storageDriver: 'overlay', swarm: true, rootless: true, nvidia: false },
      images: ['a:1', 'b:1'],
    });
    expect(report.state === 'ready' && isSupported(report)).toBe(true);
  });

  it('counts on NVIDIA where the engine has its runtime, but not on Podman, which hands no devices out', async () => {
    const runtimes = { Driver: 'overlay', Runtimes: { runc: {}, nvidia: {} } };
    const knowsNvidia = async (name: string): Promise<unknown> => {
      const version = { Version: '5.0.1', ApiVersion: '1.41', Components: [{ Name: name }] };
      const report = await examineEngine(
        await fakeEngine({ '/version': version, '/info': runtimes, '/images/json': [] }),
      );
      return report.state === 'ready' && report.nvidia;
    };
    expect([await knowsNvidia('Engine'), await knowsNvidia('Podman Engine')]).toEqual([true, false]);
  });

  it('tells no socket from one at which nobody answers, or not sensibly', async () => {
    const folder = await tempDirectory();
    expect(await examineEngine(join(folder, 'none.sock'))).toMatchObject({ state: 'absent' });
    expect(await examineEngine(await fakeEngine({ '/version': {} }))).toMatchObject({ state: 'silent' });
  });
});
