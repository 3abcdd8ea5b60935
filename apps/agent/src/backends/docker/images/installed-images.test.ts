import type { Image } from '@backend.ai/contract';
import { expect, it } from 'vitest';
import { withPlainNames } from './installed-images.ts';

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
