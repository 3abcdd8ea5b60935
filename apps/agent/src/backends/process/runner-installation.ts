import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { compileRunnerCommand, runnerFiles } from '../../runner/index.ts';
import type { Interpreter } from './runtimes.ts';
import { askProgram } from './tools.ts';

/**
 * A copy of the runner's files that every kernel may read, whatever the rights of the installation, compiled for each
 * Python found. Kernels of an earlier version keep the copy they were started with.
 */
export async function installRunner(dataDir: string, interpreters: readonly Interpreter[]): Promise<string> {
  const source = runnerFiles();
  const files = readdirSync(source).filter((name) => /\.(py|cjs|js|mjs)$/.test(name));
  const hash = createHash('sha256');
  for (const name of files.sort())
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(source, name)))
      .update('\0');
  const folder = join(dataDir, `runner-${hash.digest('hex').slice(0, 12)}`);
  if (!existsSync(folder)) {
    const draft = `${folder}.${process.pid}`;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { recursive: true });
    for (const name of files) {
      cpSync(join(source, name), join(draft, name));
      chmodSync(join(draft, name), 0o644);
    }
    chmodSync(draft, 0o755);
    renameSync(draft, folder);
  }
  const pythons = interpreters.filter(({ language }) => language === 'python');
  await Promise.all(pythons.map((interpreter) => compileOnce(folder, interpreter)));
  return folder;
}

async function compileOnce(folder: string, { path, version }: Interpreter): Promise<void> {
  const done = join(folder, `.compiled-${basename(path)}-${version}`);
  if (existsSync(done)) return;
  const [file = path, ...args] = compileRunnerCommand(path, folder);
  // Without it starts are slower, nothing else.
  await askProgram(file, args);
  writeFileSync(done, '');
}
