import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { lifecycleDocument } from './lifecycle-document.ts';

it('the page about the lifecycle is that of the code (npm run configs writes it)', () => {
  const page = readFileSync(new URL('../../../docs/dev/lifecycle.md', import.meta.url), 'utf8');
  expect(page).toBe(lifecycleDocument());
});
