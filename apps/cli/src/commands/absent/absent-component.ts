import { BaseCommand, type CliContext } from '@backend.ai/cli-kit';
import { AppError } from '@backend.ai/core';
import { Command, type CommandClass, Option } from 'clipanion';

/** Answers every command of a component in one sentence, so that scripts over all components go on. */
export function absentComponent(word: string, name: string): CommandClass<CliContext> {
  return class AbsentComponentCommand extends BaseCommand {
    static override paths = [[word]];
    static override usage = Command.Usage({
      description: `the ${name}, which is not part of this version`,
      examples: [['Says so, with exit code 1', `$0 ${word} health`]],
    });

    /** Whatever is asked of it. */
    rest = Option.Proxy();

    async perform(): Promise<number> {
      this.json = this.rest.includes('--json');
      return this.fail(
        new AppError('not-implemented', `The ${name} is not part of this version.`, {
          hint: 'What there is: ./backend.ai --help',
        }),
      );
    }
  };
}
