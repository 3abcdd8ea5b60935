import { randomUUID } from 'node:crypto';
import { customizedImageName } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { agentWorld, runCode, type StartedAgent, startKernel, textOf } from './agent-world.ts';
import { docker, dockerOptions, dockerRemains, sluggishEngine, testImages } from './docker-world.ts';

const images = await testImages();
const python = { image: images.python };

/** A name of its own, and the image goes with the test. */
function newName(): string {
  const name = customizedImageName(randomUUID(), 'tools:1');
  onTestFinished(async () => {
    await docker
      .getImage(name)
      .remove({ force: true })
      .catch(() => {});
  });
  return name;
}

/** Until it is made, or is not. */
async function commit({ api }: StartedAgent, kernelId: string, image: string, labels: Record<string, string> = {}) {
  await api.commitKernel.mutate({ kernelId, image, labels });
  return await waitFor(
    async () => {
      const now = await api.checkCommit.query({ kernelId });
      return now.state !== 'committing' && now;
    },
    { what: 'the end of the commit' },
  );
}

describe('an image of a kernel in a container', () => {
  it('has the files that programs have changed, and starts at once on its agent', { timeout: 120_000 }, async () => {
    const w = await agentWorld(dockerOptions);
    const started = await w.startAgent();
    const { kernelId } = await startKernel(w, started.api, python);
    await runCode(
      started.api,
      kernelId,
      'x = 1; open("/var/tmp/made", "w").write("in it"); open("mine", "w").write("not")',
    );
    const image = newName();
    const label = { 'ai.backend.customized-image.name': 'tools' };
    expect(await commit(started, kernelId, image, label)).toMatchObject({ state: 'done', image, failure: null });
    // It went on meanwhile.
    expect(textOf(await runCode(started.api, kernelId, 'print(x)'))).toBe('1\n');
    const offered = await waitFor(() => w.gateway.images.flat().find(({ name }) => name === image), {
      what: 'the offer',
    });
    expect(offered).toMatchObject({ language: 'python', architecture: 'x86_64' });
    const second = await startKernel(w, started.api, { image });
    const look = 'import os; print(open("/var/tmp/made").read(), os.path.exists("mine"))';
    expect(textOf(await runCode(started.api, second.kernelId, look))).toBe('in it False\n');
    const both = [second.kernelId, kernelId];
    for (const id of both) await started.api.destroyKernel.mutate({ kernelId: id, reason: 'user-requested' });
    for (const id of both) await w.gateway.waitForEvent(id, 'kernel-terminated');
    for (const id of both) await w.expectNoRemains(id);
  });

  it('has the configuration of the image below and nothing of the session', { timeout: 120_000 }, async () => {
    const w = await agentWorld(dockerOptions);
    const started = await w.startAgent();
    const secret = `s3cr3t-${randomUUID()}`;
    const { kernelId, spec } = await startKernel(w, started.api, {
      ...python,
      environ: { API_TOKEN: secret },
      sshKeyPair: { publicKey: `ssh-ed25519 ${secret}`, privateKey: `-----BEGIN ${secret}` },
      cluster: { localRank: 0, replicas: { main: 1, sub: 1 }, hosts: [{ name: 'main1' }, { name: 'sub1' }] },
      dotfiles: [{ path: '.netrc', mode: '600', content: secret }],
      bootstrap: { script: `echo ${secret} > ~/token`, timeoutMs: 20_000 },
    });
    const image = newName();
    await commit(started, kernelId, image, { 'ai.backend.customized-image.owner': 'user:me' });
    const [made, base] = await Promise.all([docker.getImage(image).inspect(), docker.getImage(python.image).inspect()]);
    const { Labels, ...config } = made.Config;
    const { Labels: baseLabels, ...baseConfig } = base.Config;
    expect(config).toEqual(baseConfig);
    expect(Labels).toEqual({ ...baseLabels, 'ai.backend.customized-image.owner': 'user:me' });
    const everything = JSON.stringify([made, await docker.getImage(image).history()]);
    for (const private_ of [secret, 'API_TOKEN', kernelId, spec.sessionId, spec.accessKey]) {
      expect(everything).not.toContain(private_);
    }
    const container = await docker.createContainer({ Image: image, Cmd: ['true'] });
    try {
      const files = (await container.export()) as AsyncIterable<Buffer>;
      let size = 0;
      let tail = '';
      for await (const chunk of files) {
        size += chunk.length;
        const text = tail + chunk.toString('latin1');
        expect(text.includes(secret)).toBe(false);
        tail = text.slice(-secret.length);
      }
      expect(size).toBeGreaterThan(0);
    } finally {
      await container.remove();
    }
    expect(made.RootFS.Layers?.slice(0, -1)).toEqual(base.RootFS.Layers);
  });

  it('leaves nothing in the engine but itself, nor when the name is taken', { timeout: 120_000 }, async () => {
    const w = await agentWorld(dockerOptions);
    const started = await w.startAgent();
    const { kernelId } = await startKernel(w, started.api, python);
    const before = new Set((await docker.listImages()).map(({ Id }) => Id));
    expect(await commit(started, kernelId, python.image)).toMatchObject({
      state: 'failed',
      failure: { code: 'object-exists' },
    });
    const image = newName();
    await commit(started, kernelId, image);
    const { Id } = await docker.getImage(image).inspect();
    expect((await docker.listImages()).filter((each) => !before.has(each.Id)).map((each) => each.Id)).toContain(Id);
    const left = await dockerRemains(null, w.dataDir);
    expect(left.filter((each) => each.startsWith('image'))).toEqual([]);
  });

  it('is given up when its kernel is ended meanwhile, and leaves nothing', { timeout: 180_000 }, async () => {
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, python);
    // Large enough for the engine to be at it for a while.
    const large = 'with open("/var/tmp/large", "wb") as file:\n  for _ in range(400): file.write(bytes(1 << 20))';
    await runCode(api, kernelId, large);
    const image = newName();
    await api.commitKernel.mutate({ kernelId, image, labels: {} });
    const filters = JSON.stringify({ label: [`ai.backend.kernel-id=${kernelId}`] });
    await waitFor(async () => (await docker.listContainers({ filters }))[0]?.Status.includes('Paused'), {
      ...{ what: 'the moment in which its files are read', timeoutMs: 30_000 },
    });
    await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
    await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    await waitFor(async () => (await dockerRemains(null, w.dataDir)).length === 0, {
      ...{ what: 'an engine without its traces', timeoutMs: 30_000 },
    });
    await expect(docker.getImage(image).inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  it('is not made by an engine that hangs, and the kernel goes on', { timeout: 120_000 }, async () => {
    const engine = await sluggishEngine();
    const w = await agentWorld({ ...dockerOptions, docker: { ...dockerOptions.docker, socket: engine.path } });
    const started = await w.startAgent();
    const { kernelId } = await startKernel(w, started.api, python);
    engine.hang();
    const image = newName();
    expect(await commit(started, kernelId, image)).toMatchObject({
      state: 'failed',
      failure: { code: 'engine-unavailable' },
    });
    engine.recover();
    expect(textOf(await runCode(started.api, kernelId, 'print(1)'))).toBe('1\n');
    await waitFor(async () => (await commit(started, kernelId, image)).state === 'done', {
      what: 'the image',
    });
  });

  it('is not made of files that the kernel cannot change', { timeout: 120_000 }, async () => {
    const w = await agentWorld({ ...dockerOptions, docker: { ...dockerOptions.docker, readOnlyRoot: true } });
    const started = await w.startAgent();
    const { kernelId } = await startKernel(w, started.api, python);
    expect(await commit(started, kernelId, newName())).toMatchObject({ failure: { code: 'unsupported-feature' } });
  });
});

describe('an image of a kernel of processes', () => {
  it('is not made', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api);
    await expect(api.commitKernel.mutate({ kernelId, image: newName() })).rejects.toMatchObject({
      code: 'unsupported-feature',
    });
  });
});
