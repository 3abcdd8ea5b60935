import type { Client, Run, RunOptions, Session } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { RunInSession } from '../../execution/run-in-session.ts';

export class RunCode extends RunInSession {
  static override paths = [['run']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Run a snippet or a program in a session of its own',
    details:
      "The exit code is the program's. With `--name` the session of that name is used, or made and kept if you say `--no-rm`.",
    examples: [
      ['A snippet', '$0 run python -c "print(6 * 7)"'],
      ['A snippet with more memory', '$0 run -r mem=2g python -c "print(len(bytearray(10**9)))"'],
    ],
  });

  code = Option.String('-c,--code', { required: true, description: 'Snippet in the language of the image' });

  protected override async start(_client: Client, session: Session, options: RunOptions): Promise<Run> {
    return session.run(this.code, options);
  }
}
