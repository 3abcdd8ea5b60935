import { spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../../scripts/images/engine.ts';
import { buildObstacle } from '../../../scripts/images/machine.ts';
import { parseBuildOptions } from '../../../scripts/images/options.ts';
import {
  contentsFingerprint,
  imageChanges,
  imageNames,
  imageRecipe,
  pushReference,
  recipeFingerprint,
} from '../../../scripts/images/recipes.ts';
import { tempDirectory } from '../src/index.ts';

const facts = { pythonVersion: '3.11.2', nodeVersion: '20.19.1', baseDistro: 'debian12' };
const recipes = imageNames.map((name) => imageRecipe(name, facts));
const [python, , , , shell] = recipes;

describe('recipes of images', () => {
  it('name an image by the true version of what is in it', () => {
    expect(recipes.map(({ reference }) => reference)).toEqual([
      'backend.ai/python:3.11',
      'backend.ai/jupyter:latest',
      'backend.ai/node:20',
      'backend.ai/debian:12',
      'backend.ai/shell:latest',
    ]);
    expect(imageRecipe('node', { ...facts, nodeVersion: '22.1.0' }).reference).toBe('backend.ai/node:22');
    expect(imageRecipe('python', { ...facts, pythonVersion: '3.13.5' }).reference).toBe('backend.ai/python:3.13');
  });

  it('say with labels what a session needs to know', () => {
    for (const { labels } of recipes) {
      expect(labels).toMatchObject({
        'ai.backend.kernelspec': '1',
        'ai.backend.role': 'COMPUTE',
        'ai.backend.runtime-path': expect.stringMatching(/^\//),
        'ai.backend.resource.min.mem': expect.stringMatching(/^\d+m$/),
      });
    }
    expect(recipes.map(({ labels }) => labels['ai.backend.service-ports'])).toEqual([
      undefined,
      'jupyter:http:8080',
      undefined,
      undefined,
      undefined,
    ]);
    expect(recipes.map(({ labels }) => labels['ai.backend.base-distro'])).toEqual([
      ...['debian12', 'debian12', 'debian12', 'debian12'],
      'static',
    ]);
  });

  it('make new files for other packages and another Node.js, and only a new image for another label', () => {
    const other = { ...python!, labels: { ...python!.labels, 'ai.backend.resource.min.mem': '1g' } };
    expect(contentsFingerprint(other, facts)).toBe(contentsFingerprint(python!, facts));
    expect(recipeFingerprint(other, 'x')).not.toBe(recipeFingerprint(python!, 'x'));
    expect(contentsFingerprint({ ...python!, packages: ['python3'] }, facts)).not.toBe(
      contentsFingerprint(python!, facts),
    );
    const newer = { ...facts, nodeVersion: '20.20.0' };
    expect(contentsFingerprint(imageRecipe('node', newer), newer)).not.toBe(contentsFingerprint(recipes[2]!, facts));
    expect(contentsFingerprint(python!, newer)).toBe(contentsFingerprint(python!, facts));
  });

  it('tell how each service of their labels is started, on the port that it is asked for', () => {
    for (const { labels, services = {} } of recipes) {
      const names = (labels['ai.backend.service-ports'] ?? '').split(',').map((entry) => entry.split(':')[0]);
      expect(Object.keys(services)).toEqual(names.filter((name) => name !== ''));
      for (const definition of Object.values(services)) expect(JSON.stringify(definition)).toContain('{ports[0]}');
    }
  });

  it('become instructions that keep spaces and quotes in values', () => {
    expect(imageChanges({ ...python!, labels: { a: 'b "c" d' } }, 'print')).toEqual([
      'LABEL a="b \\"c\\" d"',
      'LABEL ai.backend.build.recipe="print"',
      expect.stringMatching(/^ENV PATH="\//),
      'ENV LANG="C.UTF-8"',
      'WORKDIR /home/work',
      'CMD ["python3"]',
    ]);
  });

  it('are pushed under their name, or into the project that is named', () => {
    expect(pushReference('backend.ai/python:3.11', 'host:5000')).toBe('host:5000/backend.ai/python:3.11');
    expect(pushReference('backend.ai/python:3.11', 'host/team')).toBe('host/team/python:3.11');
  });
});

describe('building images', () => {
  it('takes names it knows and registries only', () => {
    expect(parseBuildOptions([]).names).toEqual(imageNames);
    expect(parseBuildOptions(['shell', 'shell', '--push', 'h:5000/']).push).toBe('h:5000');
    expect(parseBuildOptions(['shell', 'shell']).names).toEqual(['shell']);
    expect(() => parseBuildOptions(['ruby'])).toThrow(
      /"ruby" is none of the images: python, jupyter, node, debian, shell/,
    );
    expect(() => parseBuildOptions(['--push', 'https://host'])).toThrow(/--push takes HOST/);
  });

  it('tells who is not root or lacks a program what to do, and needs no root for BusyBox', () => {
    expect(buildObstacle([python!], { isRoot: false, missing: [] })?.message).toMatch(/by root only/);
    expect(buildObstacle([python!], { isRoot: true, missing: ['mmdebstrap'] })).toMatchObject({
      message: 'Not installed here: mmdebstrap.',
      hint: expect.stringMatching(/--install.*--from docker\.io\/library/),
    });
    expect(buildObstacle([shell!], { isRoot: false, missing: [] })).toBeUndefined();
  });

  it('says in one sentence that no engine answers', async () => {
    const directory = await tempDirectory();
    const script = join(import.meta.dirname, '../../../scripts/build-images.sh');
    const env = { ...process.env, DOCKER_HOST: `unix://${directory}/none.sock` };
    const { status, stdout, stderr } = spawnSync(script, ['shell', '--json'], { encoding: 'utf8', env });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^Error: The container engine at unix:\/\/\S+none\.sock does not answer\.\n {2}Start it/);
  });

  it('passes on what an engine refuses, at once or in the middle of its progress', async () => {
    const directory = await tempDirectory();
    const socket = join(directory, 'engine.sock');
    const server = createServer((request, response) => {
      request.resume();
      if (request.url === '/_ping') response.end('OK');
      else if (request.url?.startsWith('/images/gone/tag')) response.writeHead(404).end('{"message":"No such image"}');
      else if (request.url?.includes('/tag')) response.writeHead(201).end();
      else response.end('{"status":"Preparing"}\n{"error":"denied: not yours"}\n');
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    try {
      const engine = await Engine.connect({ DOCKER_HOST: `unix://${socket}` });
      const lines: string[] = [];
      await expect(engine.pushImage('gone', 'host/x:1', {}, () => {})).rejects.toThrow('No such image');
      await expect(engine.pushImage('mine', 'host/x:1', {}, (line) => lines.push(line))).rejects.toThrow('not yours');
      expect(lines).toEqual(['Preparing']);
    } finally {
      server.close();
    }
  });
});
