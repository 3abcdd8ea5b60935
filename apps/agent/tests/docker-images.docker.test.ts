import { randomBytes } from 'node:crypto';
import type { ImageSource } from '@backend.ai/contract';
import { canonicalArchitecture, systemClock } from '@backend.ai/core';
import { BackgroundTasks, silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, type PushedImage, RegistryPusher, waitFor } from '@backend.ai/testing';
import Docker from 'dockerode';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type DevServer, startDockerRegistry } from '../../../scripts/dev-servers/index.ts';
import { DockerImageEngine } from '../src/backends/docker/images/docker-image-engine.ts';
import { ImageStore } from '../src/backends/docker/images/image-store.ts';
import { InstalledImages } from '../src/backends/docker/images/installed-images.ts';

const credentials = { username: 'puller', password: 'secret of the registry' };
const docker = new Docker();
const engine = new DockerImageEngine(docker);
const signal = new AbortController().signal;
/** Of this machine, as engines say it. */
const architecture = process.arch === 'x64' ? 'amd64' : process.arch;

let registry: DevServer;
let pusher: RegistryPusher;
let host: string;

beforeAll(async () => {
  const directory = await makeTempDirectory();
  registry = await startDockerRegistry({ directory: directory.path, credentials });
  pusher = new RegistryPusher({ url: registry.url, credentials });
  host = registry.url.replace('http://', '');
  return async () => {
    await registry.stop();
    await directory.remove();
  };
});

afterAll(async () => {
  const images = await docker.listImages({ all: false });
  for (const { Id, RepoTags, RepoDigests } of images) {
    if ([...(RepoTags ?? []), ...(RepoDigests ?? [])].some((name) => name.startsWith(`${host}/`)))
      await docker.getImage(Id).remove({ force: true });
  }
});

/** A layer that no other image has, so that it is not there already. */
function layer(bytes = 4_096): Buffer {
  const header = Buffer.alloc(512);
  header.write('random.bin', 0);
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        0', 148);
  header.write('ustar\x0000', 257);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  return Buffer.concat([header, randomBytes(bytes), Buffer.alloc(-bytes & 511), Buffer.alloc(1024)]);
}

let count = 0;
async function pushed(labels: Record<string, string> = {}, bytes?: number, tag = '1'): Promise<PushedImage> {
  count += 1;
  return await pusher.image(`team/tool-${count}`, tag, { architecture, labels, layers: [layer(bytes)] });
}

const nameOf = ({ repository, tag }: PushedImage): string => `${host}/${repository}:${tag}`;
const sourceOf = ({ digest, manifestDigest }: PushedImage, other: Partial<ImageSource> = {}): ImageSource => ({
  ...{ digest, manifestDigest, credentials, pullPolicy: 'digest' },
  ...other,
});

function newStore(pullStallMs = 60_000): ImageStore {
  const tasks = new BackgroundTasks(silentLogger);
  const own = canonicalArchitecture(architecture);
  return new ImageStore({ engine, clock: systemClock, tasks, architecture: own, pullStallMs });
}

describe('images of a real engine from a real registry', () => {
  it('are fetched once, get their name, and are not fetched again', async () => {
    const store = newStore();
    const image = await pushed();
    let pulls = 0;
    const onPull = (): void => {
      pulls += 1;
    };
    const wanted = { name: nameOf(image), source: sourceOf(image) };
    const both = await Promise.all([store.ensure(wanted, signal, onPull), store.ensure(wanted, signal, onPull)]);
    expect(both.map(({ id }) => id)).toEqual([image.digest, image.digest]);
    expect(pulls).toBeGreaterThan(0);
    pulls = 0;
    expect((await store.ensure(wanted, signal, onPull)).names).toContain(nameOf(image));
    expect(pulls).toBe(0);
    expect(await store.state(nameOf(image))).toMatchObject({ state: 'present', digest: image.digest });
  });

  it('follow a tag that means another image now under the policy digest, and stay under the policy tag', async () => {
    const store = newStore();
    const first = await pushed();
    await store.ensure({ name: nameOf(first), source: sourceOf(first) }, signal);
    const second = await pusher.image(first.repository, first.tag, { architecture, layers: [layer()] });
    const name = nameOf(second);
    const kept = await store.ensure({ name, source: sourceOf(second, { pullPolicy: 'tag' }) }, signal);
    expect(kept.id).toBe(first.digest);
    const followed = await store.ensure({ name, source: sourceOf(second) }, signal);
    expect(followed.id).toBe(second.digest);
    expect((await engine.inspect(name))?.id).toBe(second.digest);
  });

  it('of several architectures come for this one', async () => {
    const store = newStore();
    const other = architecture === 'amd64' ? 'arm64' : 'amd64';
    const specs = [
      { architecture, layers: [layer()] },
      { architecture: other, layers: [layer()] },
    ];
    const { digest, repository } = await pusher.list('team/many', '1', specs, 'oci');
    // What managers record of a list: the manifest for the architecture.
    const single = await pusher.image('team/many', 'own', specs[0], 'oci');
    const source = sourceOf({ ...single, digest });
    const image = await store.ensure({ name: `${host}/${repository}:1`, source }, signal);
    expect(image).toMatchObject({ id: digest, architecture });
  });

  it('are refused with a code of its own for wrong credentials, and for what the registry does not have', async () => {
    const store = newStore();
    const image = await pushed();
    const name = nameOf(image);
    const denied = { code: 'image-pull-denied', data: { reason: 'denied' } };
    const wrong = sourceOf(image, { credentials: { username: 'puller', password: 'wrong' } });
    await expect(store.ensure({ name, source: wrong }, signal)).rejects.toMatchObject(denied);
    const { credentials: _, ...none } = sourceOf(image);
    await expect(store.ensure({ name, source: none }, signal)).rejects.toMatchObject(denied);
    const missing = sourceOf({
      ...image,
      digest: `sha256:${'1'.repeat(64)}`,
      manifestDigest: `sha256:${'2'.repeat(64)}`,
    });
    await expect(store.ensure({ name, source: missing }, signal)).rejects.toMatchObject({ code: 'image-not-found' });
  });

  it('whose registry hangs fail with what is known, and leaving gives the fetch up at once', async () => {
    const image = await pushed({}, 64 * 1024);
    const wanted = { name: nameOf(image), source: sourceOf(image) };
    await registry.pause();
    onTestFinished(() => registry.resume());
    const failure = newStore(1_500).ensure(wanted, signal);
    await expect(failure).rejects.toMatchObject({ code: 'image-pull-failed', data: { reason: 'stalled' } });
    const leaving = new AbortController();
    let isPulling = false;
    const left = newStore().ensure(wanted, leaving.signal, () => {
      isPulling = true;
    });
    left.catch(() => {});
    await waitFor(() => isPulling, { what: 'the fetch' });
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: 'cancelled' });
    await registry.resume();
    expect((await newStore().ensure(wanted, signal)).id).toBe(image.digest);
  });

  it('are offered when they say that they are made for sessions, and no more when they are purged', async () => {
    const store = newStore();
    const tick = { clock: systemClock, logger: silentLogger, tickMs: 20_000 };
    const installed = new InstalledImages({ engine, ...tick });
    const labels = { 'ai.backend.kernelspec': '1', 'ai.backend.runtime-type': 'python', 'ai.backend.role': 'nonsense' };
    const [kernel, other] = [await pushed(labels), await pushed({ 'some.label': '1' })];
    for (const image of [kernel, other]) await store.ensure({ name: nameOf(image), source: sourceOf(image) }, signal);
    const offered = async (image: PushedImage) => {
      await installed.scan();
      return installed.images.find(({ name }) => name === nameOf(image));
    };
    expect(await offered(kernel)).toMatchObject({
      aliases: [`${kernel.repository}:1`, kernel.repository],
      language: 'python',
      digest: kernel.digest,
      architecture: canonicalArchitecture(architecture),
    });
    expect(await offered(other)).toBeUndefined();
    const before = installed.images;
    await installed.scan();
    expect(installed.images).toBe(before);
    expect(await store.purge(nameOf(kernel), false)).toBe(true);
    expect(await offered(kernel)).toBeUndefined();
    expect(await store.purge(nameOf(kernel), false)).toBe(false);
  });
});
