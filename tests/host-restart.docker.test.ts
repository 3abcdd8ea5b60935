import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { engineRemains, waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { canStartEngine, DevEngine } from '../scripts/dev-servers/index.ts';
import { TestCluster } from './support/cluster.ts';

const image = 'backend.ai/shell:latest';

describe.skipIf(!canStartEngine())('a machine with sessions in containers', () => {
  let engine: DevEngine;
  let cluster: TestCluster;

  beforeAll(async () => {
    engine = await DevEngine.withImages(image);
    vi.stubEnv('DOCKER_HOST', `unix://${engine.socket}`);
    cluster = await TestCluster.start(['--backend', 'docker']);
  });
  afterAll(async () => {
    await cluster?.stop();
    vi.unstubAllEnvs();
    await engine?.remove();
  });

  interface Session {
    readonly session: { readonly status: string; readonly result: string; readonly reason: { readonly code: string } };
  }
  const info = async (name: string) => (await cluster.json<Session>(['session', 'info', name])).session;
  const small = ['-r', 'cpu=1', '-r', 'mem=128m'];

  test('restarts: all of them have ended because of it, nothing is left, and others start', {
    timeout: 240_000,
  }, async () => {
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
        // Networks that are ready for sessions to come are all that may be there.
        return left.containers.length === 0 && left.networks.length <= 4 && readdirSync(scratch).length === 0;
      },
      { what: 'an engine and a folder without traces' },
    );
    await cluster.json(['session', 'create', '--name', 'next', ...small, image]);
    const told = await cluster.cli(['session', 'exec', 'next', '--', 'echo', 'here']);
    expect(told.stdout.trim()).toBe('here');
    await cluster.json(['session', 'destroy', 'next']);
  });

  test('an agent that is back before its engine keeps its sessions, and others wait for the engine', {
    timeout: 240_000,
  }, async () => {
    await engine.stop();
    await engine.start({ liveRestore: true });
    await cluster.json(['session', 'create', '--name', 'stays', ...small, image]);
    await cluster.kill();
    await engine.stop();
    const { stderr } = await cluster.up(['--backend', 'auto']);
    expect(stderr).toMatch(/^No session starts yet: .* does not answer/);
    expect(await cluster.json(['ag', 'status'])).toMatchObject({
      backend: 'docker',
      outage: expect.stringMatching(/does not answer/),
      registration: 'registered',
      kernels: [{ unknown: true }],
    });
    await cluster.json(['session', 'create', '--name', 'comes', '--enqueue-only', ...small, image]);
    const explained = async () =>
      (await cluster.json<{ explanation: { headline: string } }>(['session', 'explain', 'comes'])).explanation.headline;
    await waitFor(async () => (await explained()).includes('engine of this agent does not answer'), {
      what: 'an explanation that speaks of the engine',
    });
    expect((await info('stays')).status).toBe('RUNNING');
    await engine.start({ liveRestore: true });
    await waitFor(async () => (await info('comes')).status === 'RUNNING', { timeoutMs: 120_000 });
    for (const name of ['stays', 'comes']) {
      const told = await cluster.cli(['session', 'exec', name, '--', 'echo', 'here']);
      expect(told.stdout.trim()).toBe('here');
      await cluster.json(['session', 'destroy', name]);
    }
  });
});
