import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalImageName, findImageReference, parseImageReference } from './image-reference.ts';

describe('names of images', () => {
  it('have a registry when their first part has a dot or a port', () => {
    expect(findImageReference('127.0.0.1:5000/team/python:3.11')).toEqual({
      registry: '127.0.0.1:5000',
      repository: 'team/python',
      tag: '3.11',
    });
    expect(findImageReference('localhost/x')).toEqual({ registry: 'localhost', repository: 'x', tag: 'latest' });
    expect(findImageReference('team/python')).toEqual({
      registry: undefined,
      repository: 'team/python',
      tag: 'latest',
    });
    expect(findImageReference('python:3')).toEqual({ registry: undefined, repository: 'python', tag: '3' });
  });

  it('that are none are refused with the field', () => {
    for (const text of [
      '',
      ':',
      'A/b',
      'a//b',
      'a:',
      'a:b:c',
      '-a',
      'a..b/',
      '../x',
      'x y',
      'r.example/',
      'r.example:x/y',
    ]) {
      expect(findImageReference(text), text).toBeUndefined();
    }
    expect(() => parseImageReference('UPPER')).toThrow('is not the name of an image');
  });

  it('come back as they were put together', () => {
    const name = fc.stringMatching(/^[a-z0-9]{1,8}$/);
    fc.assert(
      fc.property(name, name, name, (host, repository, tag) => {
        const text = canonicalImageName(`${host}.example:5000`, repository, tag);
        expect(findImageReference(text)).toEqual({ registry: `${host}.example:5000`, repository, tag });
      }),
    );
  });
});
