import { Cli, type CommandClass } from 'clipanion';
import type { CliContext } from './context.ts';

export const binaryName = './backend.ai';

export function cliOf(commands: readonly CommandClass<CliContext>[], version = ''): Cli<CliContext> {
  const cli = new Cli<CliContext>({ binaryLabel: 'Backend.AI', binaryName, binaryVersion: version });
  for (const command of commands) cli.register(command);
  return cli;
}
