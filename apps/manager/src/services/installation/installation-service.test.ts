import { describe, expect, it } from 'vitest';
import { newSecretKey } from './installation-service.ts';

describe('a new secret key', () => {
  it('is a word that no shell and no command line takes for anything else', () => {
    for (let n = 0; n < 1_000; n++) expect(newSecretKey()).toMatch(/^[0-9a-f]{40}$/);
  });

  it('is another one each time', () => {
    expect(new Set(Array.from({ length: 1_000 }, newSecretKey)).size).toBe(1_000);
  });
});
