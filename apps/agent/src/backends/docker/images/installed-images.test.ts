import type { Image } from '@backend.ai/contract';
import { systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { expect, it } from 'vitest';
import { InstalledImages, withPlainNames } from './installed-images.ts';

const image = (name: string): Image => ({
  ...{ name, aliases: [], architecture: 'x86_64', language: 'python', minSlots: {} },
});
const plainNames = (...names: string[]) =>
  withPlainNames(names.map(image)).flatMap(({ name, aliases }) => aliases.map((alias) => `${alias} is ${name}`));

it('a plain name means the newest version of an image', () => {
  expect(plainNames('backend.ai/node:20', 'backend.ai/python:3.11', 'backend.ai/python:3.9')).toEqual([
    'node is backend.ai/node:20',
    'python is backend.ai/python:3.11',
  ]);
});

it('a plain name that images of several registries have means none of them', () => {
  expect(plainNames('backend.ai/python:3.11', 'registry.example/python:9', 'backend.ai/node:20')).toEqual([
    'node is backend.ai/node:20',
  ]);
});

it('an image for sessions is told of with the accelerators that it is made for, where it says so', async () => {
  const labels = { 'ai.backend.kernelspec': '1', 'ai.backend.accelerators': 'cuda,rocm' };
  const { 'ai.backend.accelerators': _, ...silent } = labels;
  const found = new Map(
    Object.entries({ 'a:1': labels, 'b:1': silent }).map(([name, labels], index) => {
      const id = `sha256:${String(index).repeat(64)}`;
      return [id, { id, names: [name], architecture: 'amd64', labels, environ: [], sizeBytes: 1 }];
    }),
  );
  const images = new InstalledImages({
    engine: { list: async () => [...found.values()], inspect: async (id) => found.get(id) ?? null },
    ...{ clock: systemClock, logger: silentLogger, tickMs: 60_000 },
  });
  await images.scan();
  expect(images.images.map(({ accelerators }) => accelerators)).toEqual([['cuda', 'rocm'], undefined]);
});
