import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import type { KernelSpec } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { generateIdentity } from '@backend.ai/rpc';
import { collectLogs, tempDirectory } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createAgent } from '../agent.ts';
import {
  type BackendKind,
  type BackendsBefore,
  backendByItself,
  engineSocketFor,
  whyEngineIsUnused,
} from './choose-backend.ts';
import { keepKnownEngine } from './docker/known-engine.ts';
import { isolationOf } from './docker/open-context.ts';
import { type EngineReport, type ReadyEngine, usualEngineSocket } from './engine-report.ts';
import { type KernelFacts, writeFacts } from './scratch/facts.ts';
import { scratchPaths } from './scratch/scratch.ts';

const away = (state: 'absent' | 'closed' | 'silent'): EngineReport => ({ state, socket: '/run/engine.sock' });
const kernelsOf = (kind: BackendKind): BackendsBefore => ({ present: new Set([kind]), hadEngine: kind === 'docker' });
const fresh: BackendsBefore = { present: new Set(), hadEngine: false };
const engine = (other: Partial<ReadyEngine> = {}): ReadyEngine => ({
  ...{ state: 'ready', socket: '/run/engine.sock', product: 'Docker', version: '24.0.7', apiVersion: '1.43' },
  ...{ cgroupVersion: '2', storageDriver: 'overlay2', swarm: false, rootless: false, nvidia: false },
  images: ['backend.ai/python:3.11'],
  ...other,
});

describe('the backend of an agent that was told nothing', () => {
  it('is the engine when it has an image for kernels', () => {
    expect(backendByItself(fresh, engine())).toBe('docker');
  });

  it('is processes when no engine answers, it is too old, or it has no such image', () => {
    for (const state of ['absent', 'closed', 'silent'] as const)
      expect(backendByItself(fresh, away(state))).toBe('process');
    expect(backendByItself(fresh, engine({ apiVersion: '1.40' }))).toBe('process');
    expect(backendByItself(fresh, engine({ images: [] }))).toBe('process');
  });

  it('stays what it was while kernels are there', () => {
    expect(backendByItself(kernelsOf('process'), engine())).toBe('process');
    expect(backendByItself(kernelsOf('docker'), engine({ images: [] }))).toBe('docker');
    for (const state of ['absent', 'closed', 'silent'] as const)
      expect(backendByItself(kernelsOf('docker'), away(state))).toBe('docker');
  });

  it('is the engine that was used before, while it does not answer, and not when it is no longer installed', () => {
    const before = { ...fresh, hadEngine: true };
    expect(backendByItself(before, away('silent'))).toBe('docker');
    expect(backendByItself(before, away('closed'))).toBe('docker');
    expect(backendByItself(before, away('absent'))).toBe('process');
    expect(backendByItself(before, engine({ images: [] }))).toBe('process');
  });
});

describe('an engine that is not used', () => {
  it('is told of with what keeps it from that, and what to do', () => {
    const why = (other: Partial<ReadyEngine>, before = fresh) => whyEngineIsUnused(before, engine(other));
    expect(why({ images: [] })).toBe(
      'Docker 24.0.7 has no image for sessions. For containers: make one (./scripts/build-images.sh python shell), then start again.',
    );
    expect(why({ apiVersion: '1.40', version: '19.03' })).toMatch(
      /^Docker 19\.03 is too old .* Docker 20\.10 or newer\.$/,
    );
    expect(why({}, kernelsOf('process'))).toMatch(/not used while sessions of processes .* end them/);
  });

  it('is nothing to tell of where it is used, or none answers', () => {
    expect(whyEngineIsUnused(fresh, engine())).toBeNull();
    for (const state of ['absent', 'closed', 'silent'] as const)
      expect(whyEngineIsUnused(fresh, away(state))).toBeNull();
  });

  it('stands in the log of its agent', async () => {
    const paths = { version: { Version: '24.0.7', ApiVersion: '1.43' }, info: { Driver: 'overlay2' }, images: [] };
    const socket = join(await tempDirectory(), 'engine.sock');
    const server = createServer(({ url = '' }, answer) => {
      const [, path = ''] = /^\/(\w+)/.exec(url) ?? [];
      answer.end(JSON.stringify(paths[path as keyof typeof paths]));
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    onTestFinished(() => void server.close());
    const { logger, records } = collectLogs('agent');
    const agent = createAgent({
      ...{
        dataDir: await tempDirectory(),
        logger,
        identity: generateIdentity('agent', 'i-test'),
        managers: ['inproc:m'],
      },
      ...{ rpc: { inProcessName: 'b' }, dataPort: { port: 0 }, accelerators: { plugins: [] }, docker: { socket } },
    });
    await agent.prepare();
    expect(records.find(({ msg }) => msg === 'backend chosen')).toMatchObject({
      ...{ backend: 'process', unusedEngine: expect.stringContaining('has no image for sessions') },
    });
  });
});

describe('the engine of an agent that was told none', () => {
  const environment = { XDG_RUNTIME_DIR: '/run/user/7' };

  async function folderWithEngine({ kernels }: { readonly kernels: boolean }) {
    const dataDir = await tempDirectory();
    const socket = join(dataDir, 'stopped.sock');
    keepKnownEngine(dataDir, { socket, isolation: isolationOf({}, true), images: [] });
    if (kernels) leaveContainer(dataDir);
    return { dataDir, socket };
  }

  it('is that of the containers in its folder, though it is gone', async () => {
    const { dataDir, socket } = await folderWithEngine({ kernels: true });
    expect(engineSocketFor(dataDir, environment)).toBe(socket);
    const { logger, records } = collectLogs('agent');
    const agent = createAgent({
      ...{ dataDir, logger, identity: generateIdentity('agent', 'i-test'), managers: ['inproc:m'] },
      ...{ rpc: { inProcessName: 'a' }, dataPort: { port: 0 }, accelerators: { plugins: [] } },
    });
    await agent.prepare();
    expect(records.find(({ msg }) => msg === 'backend chosen')).toMatchObject({ backend: 'docker', engine: socket });
  });

  it('is the usual one while it has no containers', async () => {
    const { dataDir } = await folderWithEngine({ kernels: false });
    expect(engineSocketFor(dataDir, environment)).toBe(usualEngineSocket(environment));
  });
});

/** What is written down of a kernel. */
function leaveContainer(dataDir: string): void {
  const kernelId = newId();
  const spec: KernelSpec = {
    ...{ kernelId, sessionId: newId(), sessionName: 'test', accessKey: 'AKTEST', image: 'local/python:3.11' },
    ...{ clusterRole: 'main', clusterIndex: 1, hostname: 'main1', slots: { cpu: '1' }, environ: {} },
  };
  const paths = scratchPaths(join(dataDir, 'scratch'), kernelId);
  mkdirSync(paths.folder, { recursive: true });
  writeFacts(paths, { version: 1, backend: 'docker', state: 'running', spec } as KernelFacts);
}
