/** Says who breaks the rules of `boundaries.ts`, among all files that are in the repository or are to be. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkFile, root } from './boundaries.ts';

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter(Boolean);
const violations = files.flatMap((file) => {
  try {
    return checkFile(file, readFileSync(join(root, file), 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
});
for (const { file, message } of violations) console.error(`${file}: ${message}`);
console.log(`Boundaries: ${files.length} files, ${violations.length} violations.`);
process.exitCode = violations.length > 0 ? 1 : 0;
