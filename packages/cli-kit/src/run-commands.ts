import type { CommandClass } from 'clipanion';
import { binaryName, cliOf } from './cli.ts';
import { type CliContext, processContext } from './context.ts';
import { renderHelp } from './help-texts.ts';

/** Runs one command line. Exit codes: that of the command, 2 for wrong usage. */
export async function runCommands(
  commands: readonly CommandClass<CliContext>[],
  argv: readonly string[],
  context: CliContext,
): Promise<number> {
  const cli = cliOf(sharingFirstWord(commands, argv));
  let command: ReturnType<typeof cli.process>;
  try {
    command = cli.process([...argv], context);
  } catch (thrown) {
    return tellUsage(thrown, argv, context);
  }
  // Help asked for with options beside it: the launcher knows only the plain forms.
  if (command.help || !commands.includes(command.constructor as CommandClass<CliContext>)) {
    return tellHelp(commands, argv, context);
  }
  try {
    return await command.validateAndExecute();
  } catch (thrown) {
    return tellUsage(thrown, argv, context);
  }
}

/**
 * Those that the command line can mean, or all when it means none of them. The grammar of every command together takes
 * longer to build than most commands take to run.
 */
function sharingFirstWord(
  commands: readonly CommandClass<CliContext>[],
  [first]: readonly string[],
): readonly CommandClass<CliContext>[] {
  const meant = commands.filter(({ paths }) => paths?.some(([word]) => word === first));
  return meant.length > 0 ? meant : commands;
}

/** Of the command or group that the first words name. */
function tellHelp(commands: readonly CommandClass<CliContext>[], argv: readonly string[], context: CliContext): number {
  const texts = renderHelp(commands, '');
  const option = argv.findIndex((word) => word.startsWith('-'));
  const words = option < 0 ? argv : argv.slice(0, option);
  const lengths = [...words.keys(), words.length].reverse();
  const key = lengths.map((length) => words.slice(0, length).join(' ')).find((text) => texts[text] !== undefined);
  context.stdout.write(texts[key ?? ''] ?? '');
  return 0;
}

function tellUsage(thrown: unknown, argv: readonly string[], context: CliContext): number {
  if (!(thrown instanceof Error) || !('clipanion' in thrown)) throw thrown;
  const words = argv.filter((word) => /^[a-z][a-z-]*$/.test(word)).slice(0, 2);
  // The first paragraph says what is wrong; the rest repeats the whole grammar.
  const [first = ''] = thrown.message.split('\n\n');
  context.stderr.write(`Error: ${first.trim()}\n  See: ${[binaryName, ...words, '--help'].join(' ')}\n`);
  return 2;
}

/** The entry of a bundle file. */
export async function main(commands: readonly CommandClass<CliContext>[], argv: readonly string[]): Promise<number> {
  // `backend.ai ps | head` ends when head does, unless the command listens itself and has something to clean up.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (process.stdout.listenerCount('error') === 1) process.exit(error.code === 'EPIPE' ? 0 : 1);
  });
  // Timers of services do not keep a process alive; a command that waits for one must not end silently in the middle.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    return await runCommands(commands, argv, processContext());
  } finally {
    clearInterval(alive);
  }
}
