import { expect, it } from 'vitest';
import { containerName } from './labels.ts';

it.each([
  ['backend.ai/python:3.11', 'kernel.python.ID'],
  ['localhost:5000/team/tool@sha256:0123', 'kernel.tool.ID'],
  ['tool', 'kernel.tool.ID'],
  ['', 'kernel.image.ID'],
])('the container of %s is called %s', (image, name) => {
  expect(containerName(image, 'ID')).toBe(name);
});
