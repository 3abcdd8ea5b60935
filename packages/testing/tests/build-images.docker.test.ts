import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readImageLabels } from '@backend.ai/core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { startDockerRegistry } from '../../../scripts/dev-servers/index.ts';
import { Engine } from '../../../scripts/images/engine.ts';
import { recipeLabel } from '../../../scripts/images/recipes.ts';
import { removeImages, tempDirectory, waitFor } from '../src/index.ts';

const script = join(import.meta.dirname, '../../../scripts/build-images.sh');
const run = promisify(execFile);

async function build(args: string[], environment: NodeJS.ProcessEnv = {}): Promise<Array<Record<string, unknown>>> {
  const { stdout } = await run(script, [...args, '--json'], { env: { ...process.env, ...environment } });
  return JSON.parse(stdout) as Array<Record<string, unknown>>;
}

describe('our images', () => {
  it('are left as they are while their recipe stays the same', async () => {
    const [first] = await build(['shell']);
    expect(await build(['shell'])).toMatchObject([
      { reference: 'backend.ai/shell:latest', id: first!.id, built: false },
    ]);
  });

  it('say of themselves what sessions need, and nothing that is not understood', async () => {
    const engine = await Engine.connect(process.env);
    const [major] = process.versions.node.split('.');
    const facts = await Promise.all(
      ['shell:latest', 'python:3.11', 'jupyter:latest', `node:${major}`].map(async (reference) =>
        readImageLabels((await engine.findImage(`backend.ai/${reference}`))!.Config.Labels!),
      ),
    );
    expect(facts).toMatchObject([
      { isKernel: true, language: 'shell', runtimePath: '/bin/sh', warnings: [] },
      { isKernel: true, language: 'python', runtimePath: '/usr/bin/python3', warnings: [] },
      { isKernel: true, language: 'python', servicePorts: [{ name: 'jupyter', protocol: 'http' }], warnings: [] },
      { isKernel: true, language: 'node', runtimePath: '/usr/local/bin/node', warnings: [] },
    ]);
  });

  it('are pushed to a registry with the credentials of docker login, and built from base images in it', async () => {
    const directory = await tempDirectory();
    const credentials = { username: 'builder', password: 'a: b' };
    const closed = await startDockerRegistry({ directory: join(directory, 'closed'), credentials });
    const open = await startDockerRegistry({ directory: join(directory, 'open') });
    const hosts = [closed, open].map(({ port }) => `127.0.0.1:${port}`) as [string, string];
    const base = `${hosts[1]}/library/busybox:stable-musl`;
    const pushed = `${hosts[0]}/backend.ai/shell:latest`;
    const engine = await Engine.connect(process.env);
    onTestFinished(async () => {
      const fromDockerfile = (await engine.findImage('backend.ai/shell:latest'))!.Id;
      await build(['shell']);
      const { Id: now } = (await engine.findImage('backend.ai/shell:latest'))!;
      // Tests beside this one may have taken it meanwhile: it goes when their containers have.
      const leftOver = fromDockerfile === now ? [] : [fromDockerfile];
      await waitFor(() => removeImages(base, pushed, ...leftOver).then(() => true), { timeoutMs: 100_000 });
      await Promise.all([closed.stop(), open.stop()]);
    });

    await mkdir(join(directory, 'docker'));
    await expect(build(['shell', '--push', hosts[0]], { DOCKER_CONFIG: join(directory, 'docker') })).rejects.toThrow(
      /The engine says: .*(no basic auth credentials|unauthorized|denied)/,
    );
    const auth = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
    await writeFile(join(directory, 'docker/config.json'), JSON.stringify({ auths: { [hosts[0]]: { auth } } }));
    const [image] = await build(['shell', '--push', hosts[0]], { DOCKER_CONFIG: join(directory, 'docker') });
    expect(image!.pushed).toBe(pushed);
    const tags = await fetch(`http://${hosts[0]}/v2/backend.ai/shell/tags/list`, {
      headers: { authorization: `Basic ${auth}` },
    });
    expect(await tags.json()).toEqual({ name: 'backend.ai/shell', tags: ['latest'] });

    await engine.pushImage('backend.ai/shell:latest', base, {}, () => {});
    const [built] = await build(['shell', '--from', `${hosts[1]}/library`]);
    expect(built).toMatchObject({ reference: 'backend.ai/shell:latest', built: true });
    expect(await build(['shell', '--from', `${hosts[1]}/library`])).toMatchObject([{ id: built!.id, built: false }]);
    const { Config } = (await engine.findImage('backend.ai/shell:latest'))!;
    expect(Config.Labels![recipeLabel]).toMatch(/^[0-9a-f]{20}$/);
    expect(readImageLabels(Config.Labels!)).toMatchObject({ language: 'shell', warnings: [] });
  });
});
