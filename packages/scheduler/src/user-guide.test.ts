import { readFileSync } from 'node:fs';
import { statusReasons } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { waitingCodes } from './plan.ts';

it('the user guide has each reason of waiting as the code tells it', () => {
  const guide = readFileSync(new URL('../../../docs/user/scheduling.md', import.meta.url), 'utf8');
  const rows = waitingCodes.map((code) => `| \`${code}\` | ${statusReasons[code]} |`);
  expect(guide).toContain(['| code | meaning |', '| --- | --- |', ...rows, '<!-- end -->'].join('\n'));
});
