import { describe, expect, it } from 'vitest';
import { customizedImageLabels, customizedImageName, findCustomizedImage } from './customized-image.ts';
import { readImageLabels } from './image-labels.ts';

const owner = '0190b5a3-0000-7000-8000-00000000000a';

describe('the name of a customized image', () => {
  it('tells its owner and what the owner calls it', () => {
    const name = customizedImageName(owner, 'tools');
    expect(name).toBe(`backend.ai/customized/${owner}/tools:latest`);
    expect(findCustomizedImage(name)).toEqual({ ownerId: owner, name: 'tools:latest' });
    expect(findCustomizedImage(customizedImageName(owner, 'my.tools:3.1'))?.name).toBe('my.tools:3.1');
  });

  it.each(['', 'A', 'a/b', 'backend.ai/python', 'a:b:c', 'a@sha256:0', '../a', `${'a'.repeat(129)}`])(
    'cannot be made of %j',
    (name) => {
      expect(() => customizedImageName(owner, name)).toThrow(expect.objectContaining({ code: 'invalid-input' }));
    },
  );

  it.each([
    'backend.ai/python:3.11',
    'customized/0190b5a3-0000-7000-8000-00000000000a/tools:1',
    'backend.ai/customized/somebody/tools:1',
    `registry.test:5000/customized/${owner}/tools:1`,
    `backend.ai/team/customized/${owner}/tools:1`,
    `backend.ai/customized/${owner}/team/tools:1`,
  ])('is none: %s', (name) => expect(findCustomizedImage(name)).toBeUndefined());
});

it('a customized image says that it is made for sessions, whatever it was made of', () => {
  const labels = customizedImageLabels({ userId: owner, email: 'a@test' }, { id: 'i', name: 'tools' });
  expect(readImageLabels(labels)).toMatchObject({ isKernel: true, warnings: [] });
});
