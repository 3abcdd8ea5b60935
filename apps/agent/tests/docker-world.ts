import { readFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { engineSocket as findSocket, tempDirectory } from '@backend.ai/testing';
import Docker from 'dockerode';
import { pack } from 'tar-stream';
import { afterAll, onTestFinished } from 'vitest';
import { labels, ownedBy } from '../src/backends/docker/labels.ts';
import { dockerSchema } from '../src/config.ts';
import type { WorldOptions } from './agent-world.ts';

export const engineSocket = findSocket();
export const docker = new Docker({ socketPath: engineSocket });

export interface TestImages {
  readonly python: string;
  /** With a notebook server. */
  readonly jupyter: string;
  readonly node: string;
  /** With a shell for queries. */
  readonly shell: string;
  /** BusyBox and nothing else. */
  readonly busybox: string;
  /** With an ssh server. */
  readonly debian: string;
}

/**
 * Images of `scripts/build-images.sh`, which the project makes before its first file. What is made of them goes with the
 * test file.
 * @throws Error where there are none: tests that left themselves out would look like tests that pass
 */
export async function testImages(): Promise<TestImages> {
  const images = await docker.listImages({ filters: '{"label":["ai.backend.kernelspec"]}' });
  const names = images.flatMap(({ RepoTags }) => RepoTags ?? []);
  const [python, jupyter, node, debian, busybox] = ['python', 'jupyter', 'node', 'debian', 'shell'].map((short) =>
    names.find((name) => name.startsWith(`backend.ai/${short}:`)),
  );
  if (!python || !jupyter || !node || !debian || !busybox)
    throw new Error(
      `Not all images of scripts/build-images.sh are at ${engineSocket}; there are: ${names.join(', ') || 'none'}.`,
    );
  const shell = await derivedImage(python, 'shell', 'LABEL ai.backend.runtime-type=app\n', afterAll);
  return { python, jupyter, node, shell, busybox, debian };
}

/** An image of one more line; nothing is fetched for it. Removed after the test, or after the file's tests. */
export async function derivedImage(
  from: string,
  name: string,
  lines: string,
  after: (remove: () => Promise<void>) => void = onTestFinished,
): Promise<string> {
  const tag = `backendai-test/${name}-${process.pid}:1`;
  const archive = pack();
  archive.entry({ name: 'Dockerfile' }, `FROM ${from}\n${lines}`);
  archive.finalize();
  const building = await docker.buildImage(archive as unknown as NodeJS.ReadableStream, { t: tag });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(building, (error, output) => {
      const failure = error ?? output.find((line: { error?: string }) => line.error);
      if (failure) reject(new Error(JSON.stringify(failure)));
      else resolve();
    });
  });
  after(async () => {
    await docker.getImage(tag).remove({ force: true });
  });
  return tag;
}

/** What an agent needs to make containers of the engine of this machine. None of its networks is kept for others. */
export const dockerOptions = {
  backend: 'docker',
  docker: { socket: engineSocket, spareNetworks: 0 },
  remains: dockerRemains,
} satisfies WorldOptions;

/** As many as an agent has unless it is told otherwise. */
export const spareNetworks = dockerSchema.parse({}).spareNetworks;

/**
 * Containers, networks and images in the making that the agent of a data folder has; of one kernel only, when it is
 * named.
 * @param spares Networks that it may have ready for kernels to come, and which are not told of
 */
export async function dockerRemains(kernelId: string | null, dataDir: string, spares = 0): Promise<string[]> {
  const { installationId } = JSON.parse(readFileSync(join(dataDir, 'agent.json'), 'utf8')) as {
    installationId: string;
  };
  const containers = await docker.listContainers({ all: true, filters: JSON.stringify(ownedBy(installationId)) });
  const networks = await docker.listNetworks({ filters: JSON.stringify(ownedBy(installationId)) });
  const images = await docker.listImages({ filters: JSON.stringify(ownedBy(installationId)) });
  return [
    ...images.map(({ Id }) => `image ${Id}`),
    ...containers
      .filter(({ Labels }) => kernelId === null || Labels[labels.kernel] === kernelId)
      .map(({ Names }) => `container ${Names.join()}`),
    ...networks.slice(spares).map(({ Name }) => `network ${Name}`),
  ];
}

/** An engine's socket that can stop answering, as one that hangs does, or keep the answers to some calls to itself. */
export async function sluggishEngine() {
  const directory = await tempDirectory();
  const path = join(directory, 'engine.sock');
  const sockets = new Set<Socket>();
  let hangs = false;
  let lost: RegExp | undefined;
  const server: Server = createServer((client) => {
    const engine = connect(engineSocket);
    for (const socket of [client, engine]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        engine.destroy();
      });
    }
    // A connection is for one call, which begins with its first line.
    let isLost: boolean | undefined;
    client.on('data', (chunk) => {
      isLost ??= lost?.test(chunk.toString('latin1').split('\r\n', 1)[0] ?? '') ?? false;
      if (!hangs) engine.write(chunk);
    });
    engine.on('data', (chunk) => {
      if (isLost) client.destroy();
      else if (!hangs) client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    path,
    /** What such calls ask for is done, and nobody hears of it. */
    loseAnswers: (call: RegExp) => {
      lost = call;
    },
    hang: () => {
      hangs = true;
    },
    recover: () => {
      hangs = false;
      for (const socket of sockets) socket.destroy();
    },
  };
}
