import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '@backend.ai/core';

export const runnerLanguages = ['python', 'node', 'shell'] as const;
export type RunnerLanguage = (typeof runnerLanguages)[number];

export interface RunnerCommandOptions {
  /** Where the files of `runnerFiles()` are, as the kernel sees them. */
  readonly runnerDirectory: string;
  /** The kernel's `run` folder, as the kernel sees it: socket, journals, console log. */
  readonly runDirectory: string;
  /** Working directory of user code. */
  readonly homeDirectory: string;
  /** Output of one execution that is kept; 64 MiB by default. */
  readonly outputLimitBytes?: number | undefined;
  /** Of Python: `auto` is ipykernel where the interpreter has it, else, as with `builtin`, the runner's own. */
  readonly interpreter?: 'auto' | 'builtin' | undefined;
  /** For `shell`: which one, as the kernel sees it; bash by default where there is one. */
  readonly shell?: string | undefined;
  /** Where the programs of `carryPrograms` are, as the kernel sees them. */
  readonly carried?: string | undefined;
  /** It waits for `RunnerClient.claim` and does nothing before. */
  readonly isWarm?: boolean | undefined;
}

/**
 * The command that starts a runner in a kernel.
 * @param interpreter A Python of version 3.8 or later for `python`, Node.js for `node` and `shell`: its path, or all the
 *   words that start it.
 */
export function runnerCommand(
  language: RunnerLanguage,
  interpreter: string | readonly string[],
  options: RunnerCommandOptions,
): string[] {
  return [
    ...(typeof interpreter === 'string' ? [interpreter] : interpreter),
    join(options.runnerDirectory, language === 'python' ? 'runner.py' : 'runner.cjs'),
    ...(language === 'python' ? [] : ['--language', language]),
    ...['--run-dir', options.runDirectory],
    ...['--home', options.homeDirectory],
    ...(options.shell === undefined ? [] : ['--shell', options.shell]),
    ...(options.carried === undefined ? [] : ['--carried', options.carried]),
    ...(options.isWarm ? ['--warm', 'yes'] : []),
    ...(options.interpreter === undefined ? [] : ['--interpreter', options.interpreter]),
    ...(options.outputLimitBytes === undefined ? [] : ['--output-limit', String(options.outputLimitBytes)]),
  ];
}

/** Compiles the Python runner for one interpreter, where its folder may be written: saves 20 ms at each start. */
export function compileRunnerCommand(interpreterPath: string, runnerDirectory: string): string[] {
  return [interpreterPath, join(runnerDirectory, 'runner.py'), '--compile'];
}

/**
 * The folder with the runner's files, to be mounted into kernels. Found beside the sources, beside the compiled files and
 * from a bundle anywhere below the agent or the repository.
 * @throws AppError `internal`
 */
export function runnerFiles(override?: string): string {
  if (override !== undefined) return checked(override);
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    for (const candidate of [join(folder, 'runners'), join(folder, 'apps', 'agent', 'runners')]) {
      if (existsSync(join(candidate, 'runner.py'))) return candidate;
    }
    if (dirname(folder) === folder) break;
    folder = dirname(folder);
  }
  return checked('runners');
}

function checked(folder: string): string {
  if (existsSync(join(folder, 'runner.py'))) return folder;
  throw new AppError('internal', "The kernel runner's files are not installed.", {
    hint: 'Install the agent again, or name their folder in its configuration.',
    detail: { folder },
  });
}
