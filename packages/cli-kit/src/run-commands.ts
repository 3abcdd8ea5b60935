import type { CommandClass } from 'clipanion';
import { cliOf } from './cli.ts';
import { type CliContext, processContext } from './context.ts';
import { renderHelp } from './help-texts.ts';
import { clean, writeJson } from './output.ts';
import { asksForHelp, asksForJson, helpKey, usageError } from './usage-error.ts';

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
    // After arguments the grammar takes `--help` for an option that it does not know.
    if (isUsage(thrown) && asksForHelp(argv)) return tellHelp(commands, argv, context);
    return tellUsage(thrown, commands, argv, context);
  }
  // Help asked for with options beside it: the launcher knows only the plain forms.
  if (command.help || !commands.includes(command.constructor as CommandClass<CliContext>)) {
    return tellHelp(commands, argv, context);
  }
  try {
    return await command.validateAndExecute();
  } catch (thrown) {
    return tellUsage(thrown, commands, argv, context);
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
  context.stdout.write(texts[helpKey(texts, argv)] ?? '');
  return 0;
}

function tellUsage(
  thrown: unknown,
  commands: readonly CommandClass<CliContext>[],
  argv: readonly string[],
  { stdout, stderr, requestId }: CliContext,
): number {
  if (!isUsage(thrown)) throw thrown;
  const error = usageError(thrown, renderHelp(commands, ''), argv);
  stderr.write(`Error: ${clean(error.message)}\n  ${clean(error.hint).replaceAll('\n', '\n  ')}\n`);
  if (asksForJson(argv)) writeJson(stdout, { requestId, error: error.toBody(requestId) });
  return 2;
}

function isUsage(thrown: unknown): thrown is Error {
  return thrown instanceof Error && 'clipanion' in thrown;
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
