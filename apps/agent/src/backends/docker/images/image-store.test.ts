import type { ImageSource } from '@backend.ai/contract';
import { AppError, deferred } from '@backend.ai/core';
import { BackgroundTasks, ensureRequestId, silentLogger } from '@backend.ai/telemetry';
import { FakeClock, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import type { EngineImage, ImageEngine, PullOptions } from './image-engine.ts';
import { ImageStore } from './image-store.ts';
import { pullFailure } from './pull-failure.ts';
import { LayerBytes } from './pull-progress.ts';

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`;
const name = 'registry.test:5000/team/tool:1';
const source: ImageSource = { digest: digest('a'), manifestDigest: digest('b'), pullPolicy: 'digest' };
const reference = `registry.test:5000/team/tool@${digest('b')}`;

/** A store of images whose fetches go on until the test lets them end. */
class ScriptedEngine implements ImageEngine {
  readonly images = new Map<string, EngineImage>();
  readonly pulls: Array<PullOptions & { reference: string; end: ReturnType<typeof deferred<void>> }> = [];

  add(id: string, names: readonly string[], architecture = 'amd64'): void {
    const image = { id, names, architecture, labels: {}, environ: [], sizeBytes: 1 };
    for (const each of [id, ...names]) this.images.set(each, image);
  }

  async inspect(wanted: string): Promise<EngineImage | null> {
    return this.images.get(wanted) ?? null;
  }

  async list(): Promise<[]> {
    return [];
  }

  async pull(wanted: string, options: PullOptions): Promise<void> {
    const end = deferred();
    this.pulls.push({ reference: wanted, ...options, end });
    options.signal.addEventListener('abort', () => end.reject(new AppError('cancelled', 'aborted')));
    await end.promise;
    this.add(digest('a'), [wanted]);
  }

  async tag(id: string, tagged: string): Promise<void> {
    this.images.set(tagged, this.images.get(id)!);
  }

  async remove(wanted: string): Promise<boolean> {
    return this.images.delete(wanted);
  }
}

function world() {
  const engine = new ScriptedEngine();
  const clock = new FakeClock();
  const tasks = new BackgroundTasks(silentLogger);
  const store = new ImageStore({ engine, clock, tasks, architecture: 'x86_64', pullStallMs: 60_000 });
  const signal = new AbortController().signal;
  const pulling = (count = 1) =>
    waitFor(() => engine.pulls.length === count && engine.pulls.at(-1), { what: 'a pull' });
  return { engine, clock, store, signal, pulling };
}

describe('images of an engine', () => {
  it('that are there are not fetched, and nobody is told of a pull', async () => {
    const { engine, store, signal } = world();
    engine.add(source.digest, [name]);
    let pulls = 0;
    const image = await store.ensure({ name, source }, signal, () => {
      pulls += 1;
    });
    expect([image.id, pulls, engine.pulls.length]).toEqual([source.digest, 0, 0]);
  });

  it('with the right digest get the name that means them now', async () => {
    const { engine, store, signal } = world();
    engine.add(source.digest, ['registry.test:5000/team/tool:old']);
    await store.ensure({ name, source }, signal);
    expect(engine.images.get(name)?.id).toBe(source.digest);
    expect(engine.pulls).toEqual([]);
  });

  it('are fetched by digest when the name means another one, under the policy digest only', async () => {
    const { engine, store, signal, pulling } = world();
    engine.add(digest('c'), [name]);
    expect((await store.ensure({ name, source: { ...source, pullPolicy: 'tag' } }, signal)).id).toBe(digest('c'));
    expect((await store.ensure({ name, source: { ...source, pullPolicy: 'none' } }, signal)).id).toBe(digest('c'));
    const ensured = store.ensure({ name, source }, signal);
    const pull = await pulling();
    expect(pull.reference).toBe(reference);
    pull.end.resolve();
    expect((await ensured).id).toBe(source.digest);
    expect(engine.images.get(name)?.id).toBe(source.digest);
  });

  it('that are absent are refused without a source and under the policy none', async () => {
    const { store, signal } = world();
    const refused = { code: 'unknown-image' };
    await expect(store.ensure({ name: 'mine:1' }, signal)).rejects.toMatchObject(refused);
    await expect(store.ensure({ name, source: { ...source, pullPolicy: 'none' } }, signal)).rejects.toMatchObject(
      refused,
    );
  });

  it('of another architecture are refused', async () => {
    const { engine, store, signal } = world();
    engine.add(digest('d'), ['mine:1'], 'arm64');
    await expect(store.ensure({ name: 'mine:1' }, signal)).rejects.toMatchObject({ code: 'unknown-image' });
  });

  it('are fetched once for all who want them at the same time, and on for those who stay', async () => {
    const { engine, store, signal, pulling } = world();
    const leaver = new AbortController();
    const left = store.ensure({ name, source }, leaver.signal);
    const pull = await pulling();
    const stays = store.ensure({ name, source }, signal);
    pull.onProgress({ currentBytes: 5, totalBytes: 10 });
    expect(await store.state(name)).toMatchObject({ state: 'pulling', progress: { currentBytes: 5, totalBytes: 10 } });
    leaver.abort();
    await expect(left).rejects.toMatchObject({ code: 'cancelled' });
    expect(pull.signal.aborted).toBe(false);
    pull.end.resolve();
    expect((await stays).id).toBe(source.digest);
    expect(engine.pulls).toHaveLength(1);
    expect(await store.state(name)).toMatchObject({ state: 'present', digest: source.digest });
  });

  it('that nobody wants any more are not fetched to the end, and whoever comes next begins anew', async () => {
    const { store, signal, pulling } = world();
    const only = new AbortController();
    const left = store.ensure({ name, source }, only.signal);
    const first = await pulling();
    only.abort();
    await expect(left).rejects.toMatchObject({ code: 'cancelled' });
    expect(first.signal.aborted).toBe(true);
    const again = store.ensure({ name, source }, signal);
    (await pulling(2)).end.resolve();
    expect((await again).id).toBe(source.digest);
  });

  it('whose fetch says nothing for long have failed; signs of life give it more time', async () => {
    const { clock, store, signal, pulling } = world();
    const ensured = store.ensure({ name, source }, signal);
    const failure = expect(ensured).rejects.toMatchObject({
      code: 'image-pull-failed',
      data: { reason: 'stalled', progress: { currentBytes: 1, totalBytes: 9 } },
    });
    const pull = await pulling();
    await clock.advance(59_000);
    pull.onProgress({ currentBytes: 1, totalBytes: 9 });
    await clock.advance(59_000);
    expect(pull.signal.aborted).toBe(false);
    await clock.advance(1_000);
    await failure;
  });

  it('that could not be fetched beforehand say why until somebody tries again', async () => {
    const { engine, store, pulling } = world();
    ensureRequestId(() => store.preload({ name, source }));
    (await pulling()).end.reject(pullFailure(reference, 'no basic auth credentials'));
    await waitFor(async () => (await store.state(name)).failure?.code === 'image-pull-denied', { what: 'the failure' });
    ensureRequestId(() => store.preload({ name, source }));
    (await pulling(2)).end.resolve();
    await waitFor(async () => (await store.state(name)).state === 'present', { what: 'the image' });
    expect((await store.state(name)).failure).toBeNull();
    expect(engine.pulls).toHaveLength(2);
  });
});

describe('what engines say of fetches', () => {
  it.each([
    ['Get "http://127.0.0.1:5000/v2/x": no basic auth credentials', 'image-pull-denied', 'denied'],
    ['unauthorized: authentication required', 'image-pull-denied', 'denied'],
    ['manifest for x:1 not found: manifest unknown: manifest unknown', 'image-not-found', 'not-found'],
    ['dial tcp 127.0.0.1:1: connect: connection refused', 'image-pull-failed', 'registry-unreachable'],
    ['write /var/lib/docker/x: no space left on device', 'image-pull-failed', 'no-space'],
    ['unexpected EOF', 'image-pull-failed', 'transfer-broken'],
  ])('%s', (message, code, reason) => {
    expect(pullFailure('x:1', message)).toMatchObject({ code, data: { reason } });
  });

  it('is added up layer by layer, and never goes back', () => {
    const bytes = new LayerBytes();
    const say = (id: string, status: string, current?: number, total?: number) =>
      bytes.add({ id, status, progressDetail: { ...(current === undefined ? {} : { current, total: total! }) } });
    bytes.add({ status: 'Pulling from team/tool' });
    say('1', 'Pulling fs layer');
    say('2', 'Already exists');
    say('1', 'Downloading', 10, 100);
    say('3', 'Downloading', 50, 60);
    expect(bytes.total).toEqual({ currentBytes: 60, totalBytes: 160 });
    say('1', 'Downloading', 5, 100);
    expect(bytes.total).toEqual({ currentBytes: 60, totalBytes: 160 });
    say('1', 'Extracting', 3, 100);
    say('3', 'Download complete');
    expect(bytes.total).toEqual({ currentBytes: 160, totalBytes: 160 });
  });
});
