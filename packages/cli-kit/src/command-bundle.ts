import type { CommandClass } from 'clipanion';
import type { CliContext } from './context.ts';

/**
 * What an app contributes to the command line: its `src/commands/index.ts` exports `commands`.
 *
 * `apps/cli/scripts/bundle.ts` lists the apps, makes one file of each group of commands (with this package and clipanion
 * inside), and writes the table from first words to files and the help texts into `apps/cli/dist/manifest.json`. The
 * launcher loads one such file and calls its `main`. So commands of different bundles never meet in one process, and
 * their classes need no common copy of clipanion.
 */
export interface CommandBundle {
  readonly commands: readonly CommandClass<CliContext>[];
}

/** What a finished bundle file exports. */
export interface RunnableBundle extends CommandBundle {
  main(argv: readonly string[]): Promise<number>;
}
