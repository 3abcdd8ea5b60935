import { quoteWords } from '@backend.ai/cli-kit';
import { type Client, hasCode, type Run, type RunOptions, type Session } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { Command, Option } from 'clipanion';
import { RunInSession } from '../../execution/run-in-session.ts';
import { collectFiles } from '../../files/local-files.ts';

const interpreters: Readonly<Record<string, string>> = { python: 'python3', node: 'node', shell: 'sh' };

export class RunFile extends RunInSession {
  static override paths = [['run']];
  static override usage = Command.Usage({
    description: 'Run a program file with arguments',
    details:
      'The file is uploaded and run by the interpreter of the image. Options of the command stand before FILE; all that follows it belongs to the program.',
    examples: [
      ['A program with arguments', '$0 run python analyse.py --input data.csv'],
      ['A program that reads a file', '$0 run --upload data.csv python analyse.py data.csv'],
    ],
  });

  file = Option.String({ name: 'FILE', required: true });
  args = Option.Proxy({ name: 'ARGS' });

  protected override filesToUpload(): readonly string[] {
    return [this.file, ...this.uploads];
  }

  protected override async start(client: Client, session: Session, options: RunOptions): Promise<Run> {
    const {
      files: [program],
    } = await collectFiles([this.file], this.context.cwd);
    if (!program) throw new AppError('invalid-input', `${this.file} is not a program.`);
    const interpreter = interpreters[await this.#language(client, session)] ?? 'sh';
    return session.exec(quoteWords([interpreter, `./${program.target}`, ...this.args]), options);
  }

  async #language(client: Client, session: Session): Promise<string> {
    const { image } = session.view;
    const images = await client.images.list().catch((thrown) => {
      if (hasCode(thrown, 'forbidden')) return [];
      throw thrown;
    });
    const found = images.find(({ name, aliases }) => name === image || aliases.includes(image));
    return found?.language ?? /python|node/.exec(image)?.[0] ?? 'shell';
  }
}
