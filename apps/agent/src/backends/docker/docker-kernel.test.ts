import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError, deferred, systemClock } from '@backend.ai/core';
import { collectLogs, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { scratchPaths } from '../scratch/scratch.ts';
import { DockerKernel } from './docker-kernel.ts';
import type { Engine } from './engine.ts';

const order = { image: 'backend.ai/tools:1', labels: {} };

/** A kernel in a container of an engine that makes images when the test lets it. */
function kernelWith(more: Partial<Engine> = {}, paused = false, isPodman = false) {
  const logs = collectLogs('agent');
  const made = deferred<string>();
  const told: string[] = [];
  let loaded = false;
  const image = { Config: {}, Architecture: 'amd64', Os: 'linux', Created: '', RootFS: {} };
  const engine = {
    waitUntilStopped: (_id: string, signal: AbortSignal) =>
      new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
    inspectContainer: async () => ({
      Image: 'base',
      Config: { Env: [], Labels: {} },
      HostConfig: {},
      State: { Running: true },
    }),
    inspectImage: async (name: string) => (name === order.image && !loaded ? null : image),
    commitContainer: () => {
      told.push('commit');
      return made.promise;
    },
    loadImage: async () => {
      loaded = true;
    },
    removeImage: async (id: string) => void told.push(`remove ${id}`),
    pauseContainer: async () => void told.push('pause'),
    unpauseContainer: async () => void told.push('unpause'),
    ...more,
  } as unknown as Engine;
  const root = mkdtempSync(join(tmpdir(), 'docker-kernel-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const paths = scratchPaths(root, 'kernel');
  mkdirSync(paths.folder);
  const kernel = new DockerKernel({
    ...{ paths, isolation: {} as never, uid: null, services: [], cgroups: [] },
    ...{ paused, engine, containerId: 'container', pid: null, address: null, onImage: () => {} },
    ...{ clock: systemClock, logger: logs.logger, traits: { keepsContainers: isPodman, knowsItsLayers: !isPodman } },
  });
  onTestFinished(() => kernel.close());
  return { kernel, told, made, records: logs.records };
}

it('a kernel is not paused while an image is made of it, and what the engine holds still is left to it', async () => {
  const { kernel, told, made } = kernelWith();
  const commit = kernel.commit(order);
  await waitFor(() => told.includes('commit'));
  await expect(kernel.pause()).rejects.toMatchObject({ code: 'state-conflict' });
  expect(kernel.paused).toBe(false);
  await kernel.resume();
  made.resolve('draft');
  await commit;
  await kernel.pause();
  expect(told).toEqual(['commit', 'remove draft', 'pause']);
});

it('a paused kernel can be resumed while an image is made of it', async () => {
  const { kernel, told, made } = kernelWith({}, true);
  const commit = kernel.commit(order);
  await waitFor(() => told.includes('commit'));
  await kernel.resume();
  expect(told).toEqual(['commit', 'unpause']);
  made.resolve('draft');
  await commit;
});

it('an image is made, also when its draft cannot be removed; the log tells which one', async () => {
  const hung = async () => {
    throw new AppError('engine-unavailable', 'The engine hangs.');
  };
  const { kernel, made, records } = kernelWith({ removeImage: hung });
  made.resolve('draft');
  await kernel.commit(order);
  expect(records).toContainEqual(expect.objectContaining({ image_id: 'draft' }));
});

it('makes no image of a container of Podman, which says so', async () => {
  const { kernel, told } = kernelWith({}, false, true);
  await expect(kernel.commit(order)).rejects.toMatchObject({ code: 'unsupported-feature' });
  expect(told).toEqual([]);
});

it('a container that ends while Podman is away has ended by itself', async () => {
  const away = new AppError('engine-unavailable', 'Nobody is there.', { cause: new Error('ENOENT') });
  let asked = 0;
  const ended = { State: { Running: false, ExitCode: 3, OOMKilled: false } };
  const { kernel } = kernelWith(
    {
      waitUntilStopped: async () => {
        if (asked++ === 0) throw away;
      },
      inspectContainer: (async () => ended) as never,
    },
    false,
    true,
  );
  expect(await kernel.ended).toMatchObject({ exitCode: 3, reason: 'self-terminated' });
});
