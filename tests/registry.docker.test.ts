import { randomUUID } from 'node:crypto';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { SessionHistoryEntry } from '@backend.ai/client';
import { makeTempDirectory, waitFor } from '@backend.ai/testing';
import { beforeAll, expect, it } from 'vitest';
import { derivedImage, docker, dockerRemains, spareNetworks, testImages } from '../apps/agent/tests/docker-world.ts';
import { type DevServer, startDockerRegistry } from '../scripts/dev-servers/index.ts';
import { TestCluster } from './support/cluster.ts';

/** How far the fetch of an image is, drawn for people: some of it. */
const bar = /lab\/tool:1 \[=*-+\] \d+% [1-9]\S* \/ 7\.63m/;
const credentials = { username: 'puller', password: 'secret of the registry' };
let registry: DevServer;
let cluster: TestCluster;
let way: Awaited<ReturnType<typeof halfway>>;
let name: string;

/** The way to the registry: large layers come half, and the rest when somebody has been told how far the fetch is. */
async function halfway(registryUrl: string): Promise<{ url: string; release: () => void; close: () => void }> {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const server = createServer((asked, answer) => {
    const { method, headers, url = '/' } = asked;
    const onward = request(new URL(url, registryUrl), { method, headers }, (given) => {
      answer.writeHead(given.statusCode!, given.headers);
      const length = Number(given.headers['content-length'] ?? 0);
      let passed = 0;
      void pipeline(
        given,
        async function* (chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            passed += chunk.length;
            if (length > 1_000_000 && passed > length / 2) await released;
            yield chunk;
          }
        },
        answer,
      ).catch(() => answer.destroy());
    });
    onward.on('error', () => answer.destroy());
    asked.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = (): void => {
    release();
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, release, close };
}

/** An image that only the registry has, with a layer that no engine has seen, so that it has to be fetched. */
async function pushImage(host: string): Promise<void> {
  const { python } = await testImages();
  const tool = `${host}/lab/tool:1`;
  const built = await derivedImage(
    python,
    'tool',
    `LABEL test=${randomUUID()}\nRUN head -c 8000000 /dev/urandom > /opt/tool\n`,
    () => {},
  );
  await docker.getImage(built).tag({ repo: `${host}/lab/tool`, tag: '1' });
  const pushing = await docker.getImage(tool).push({ authconfig: { ...credentials, serveraddress: host } });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(pushing, (error, told: Array<{ error?: string }>) => {
      const failed = error?.message ?? told.find((line) => line.error)?.error;
      if (failed) reject(new Error(failed));
      else resolve();
    });
  });
  for (const each of [tool, built]) await docker.getImage(each).remove({ force: true });
}

beforeAll(async () => {
  const directory = await makeTempDirectory();
  registry = await startDockerRegistry({ directory: directory.path, credentials });
  await pushImage(new URL(registry.url).host);
  way = await halfway(registry.url);
  name = `${new URL(way.url).host}/lab/tool:1`;
  cluster = await TestCluster.start(['--backend', 'docker']);
  return async () => {
    await cluster.stop();
    await docker.getImage(name).remove({ force: true });
    way.close();
    await registry.stop();
    await directory.remove();
  };
});

it('a session is made of an image that its agent fetches with the password that the manager keeps', async () => {
  await expect(docker.pull(name)).rejects.toThrow(/no basic auth credentials|unauthorized/);
  const added = await cluster.cli(
    ['admin', 'registry', 'add', 'lab', way.url, '--username', credentials.username, '--password-stdin'],
    { input: `${credentials.password}\n` },
  );
  expect(added.code, added.stderr).toBe(0);
  const scanned = await cluster.cli(['image', 'rescan', 'lab']);
  expect(scanned.code, scanned.stderr).toBe(0);

  const start = async (session: string): Promise<{ states: string[]; seen: string }> => {
    const made = await cluster.onTerminal(
      ['session', 'create', '--name', session, '-r', 'cpu=1', '-r', 'mem=512m', 'lab/tool:1'],
      {
        onStart(child) {
          let shown = '';
          child.stdout?.on('data', (chunk) => {
            shown += String(chunk);
            if (bar.test(shown)) way.release();
          });
        },
      },
    );
    expect(made.code, made.stdout).toBe(0);
    const { history } = await cluster.json<{ history: SessionHistoryEntry[] }>(['session', 'history', session]);
    return { states: history.map(({ to }) => to), seen: made.stdout };
  };
  const first = await start('fetched');
  expect(first.states).toContain('PULLING');
  expect(first.seen).toMatch(bar);
  expect(first.seen.split('\r\n')).toContainEqual(expect.stringMatching(/Session fetched is created: RUNNING$/));
  const run = await cluster.cli(['session', 'exec', 'fetched', '-c', 'import os; print(os.path.getsize("/opt/tool"))']);
  expect(run).toMatchObject({ code: 0, stdout: '8000000\n' });
  const second = await start('there');
  expect(second.states).not.toContain('PULLING');
  expect(second.seen).not.toMatch(bar);
  expect(JSON.stringify(cluster.logs())).not.toContain(credentials.password);
  for (const session of ['fetched', 'there']) await cluster.json(['session', 'destroy', session]);
  await waitFor(async () => (await dockerRemains(null, `${cluster.dataDir}/agent`, spareNetworks)).length === 0);
});
