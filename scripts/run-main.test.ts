import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { root } from './boundaries.ts';

/** Of a script with this body, which may use what `imports` says. */
async function outcomeOf(body: string): Promise<readonly [code: number, stdout: string, stderr: string]> {
  const folder = await makeTempDirectory();
  onTestFinished(() => folder.remove());
  const file = join(folder.path, 'script.ts');
  const from = (path: string): string => JSON.stringify(join(root, path));
  writeFileSync(
    file,
    `import { AppError, delay, systemClock } from ${from('packages/core/src/index.ts')};
     import { runMain } from ${from('scripts/run-main.ts')};
     void runMain(async () => { ${body} });`,
  );
  const argv = ['--import', 'tsx', '--conditions=@backend.ai/source', file];
  return new Promise((resolve) => {
    execFile(process.execPath, argv, { cwd: root }, (error, stdout, stderr) => {
      resolve([typeof error?.code === 'number' ? error.code : 0, stdout, stderr]);
    });
  });
}

it('a script that waits for nothing but a timer of a service goes on behind it, and ends when it is done', async () => {
  expect(await outcomeOf("await delay(systemClock, 300); console.log('done')")).toEqual([0, 'done\n', '']);
});

it('what goes wrong in a script is one sentence with a next step, and what nobody expected a sentence', async () => {
  const refused = "throw new AppError('invalid-input', 'Not like this.', { hint: 'Like that.' })";
  expect(await outcomeOf(refused)).toEqual([1, '', 'Error: Not like this.\n  Like that.\n']);
  expect(await outcomeOf("throw new Error('broken')")).toEqual([1, '', 'Error: broken\n']);
});
