import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { generatedFiles } from './write-configs.ts';

it.each([...generatedFiles()])('%s is that of the code (npm run configs writes it)', (path, text) => {
  expect(readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')).toBe(text);
});
