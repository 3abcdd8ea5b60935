import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { engineRemains, engineSocket, makeTempDirectory, waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { canStartEngine, DevEngine, loadImages } from '../scripts/dev-servers/index.ts';
import { TestCluster } from './support/cluster.ts';

const image = 'backend.ai/shell:latest';

describe.skipIf(!canStartEngine())('a machine that restarts with sessions in containers', () => {
  let engine: DevEngine;
  let cluster: TestCluster;
  let removeAll = async (): Promise<void> => {};

  beforeAll(async () => {
    const directory = await makeTempDirectory();
    engine = new DevEngine(join(directory.path, 'engine'));
    removeAll = async () => {
      await engine.remove();
      await directory.remove();
    };
    await engine.start();
    await loadImages(engineSocket(), engine.socket, image);
    vi.stubEnv('DOCKER_HOST', `unix://${engine.socket}`);
    cluster = await TestCluster.start(['--backend', 'docker']);
  });
  afterAll(async () => {
    await cluster?.stop();
    vi.unstubAllEnvs();
    await removeAll();
  });

  interface Session {
    readonly session: { readonly status: string; readonly result: string; readonly reason: { readonly code: string } };
  }
  const info = async (name: string) => (await cluster.json<Session>(['session', 'info', name])).session;
  const small = ['-r', 'cpu=1', '-r', 'mem=128m'];

  test('all of them have ended because of it, nothing is left, and others start', { timeout: 240_000 }, async () => {
    await cluster.json(['session', 'create', '--name', 'works', ...small, image]);
    await cluster.json([
      'session',
      'create',
      '--name',
      'batch-job',
      '--type',
      'batch',
      ...small,
      '-c',
      'sleep 600',
      image,
    ]);
    await waitFor(async () => (await info('batch-job')).status === 'RUNNING');
    await cluster.kill();
    await engine.loseHost();
    const scratch = join(cluster.dataDir, 'agent/scratch');
    for (const kernel of readdirSync(scratch)) {
      const file = join(scratch, kernel, 'kernel.json');
      const facts = JSON.parse(readFileSync(file, 'utf8')) as object;
      writeFileSync(file, JSON.stringify({ ...facts, machineBootId: 'the one before' }));
    }
    await engine.start();
    await cluster.up(['--backend', 'docker']);
    for (const name of ['works', 'batch-job']) {
      const hasEnded = async () => ['TERMINATED', 'ERROR'].includes((await info(name)).status);
      await waitFor(hasEnded, { what: `the end of ${name}` });
      expect((await info(name)).reason.code).toBe('host-restarted');
    }
    const { installationId } = JSON.parse(readFileSync(join(cluster.dataDir, 'agent/agent.json'), 'utf8')) as {
      installationId: string;
    };
    await waitFor(
      async () => {
        const left = await engineRemains(`ai.backend.installation=${installationId}`);
        return left.containers.length + left.networks.length === 0 && readdirSync(scratch).length === 0;
      },
      { what: 'an engine and a folder without traces' },
    );
    await cluster.json(['session', 'create', '--name', 'next', ...small, image]);
    const told = await cluster.cli(['session', 'exec', 'next', '--', 'echo', 'here']);
    expect(told.stdout.trim()).toBe('here');
    await cluster.json(['session', 'destroy', 'next']);
  });
});
