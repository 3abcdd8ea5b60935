import { existsSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { askProgram } from '../../files/programs.ts';
import { compileRunnerCommand } from '../../runner/index.ts';
import type { Interpreter } from './runtimes.ts';

/** Compiles an installed runner for each Python found. */
export async function compileRunner(folder: string, interpreters: readonly Interpreter[]): Promise<void> {
  const pythons = interpreters.filter(({ language }) => language === 'python');
  await Promise.all(pythons.map((interpreter) => compileOnce(folder, interpreter)));
}

async function compileOnce(folder: string, { path, version }: Interpreter): Promise<void> {
  const done = join(folder, `.compiled-${basename(path)}-${version}`);
  if (existsSync(done)) return;
  const [file = path, ...args] = compileRunnerCommand(path, folder);
  // Without it starts are slower, nothing else.
  await askProgram(file, args);
  writeFileSync(done, '');
}
