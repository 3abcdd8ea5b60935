import { parseDurationMs, quoteWords } from '@backend.ai/cli-kit';
import { Command, Option, UsageError } from 'clipanion';
import { followRun } from '../../execution/follow-run.ts';
import { runDocument } from '../../execution/run-document.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionExec extends SessionCommand {
  static override paths = [['session', 'exec'], ['exec']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Run a command or a snippet in a session',
    details: "The exit code is the program's. A snippet (`-c`) shares its variables with earlier ones.",
    examples: [
      ['A command', '$0 session exec my-session -- ls -la'],
      ['A snippet in the language of the session', '$0 session exec my-session -c "print(6 * 7)"'],
    ],
  });

  code = Option.String('-c,--code', { description: 'Snippet in the language of the session' });
  timeout = Option.String('--timeout', { description: 'The program may last so long: 10s, 5m' });
  command = Option.Rest({ name: '-- COMMAND' });

  override async perform(): Promise<number> {
    if ((this.code === undefined) === (this.command.length === 0)) {
      throw new UsageError('Give either a command after "--", or a snippet with -c.');
    }
    const options = {
      collect: this.json,
      ...(this.timeout === undefined ? {} : { timeoutMs: parseDurationMs('--timeout', this.timeout) }),
    };
    const session = await this.open();
    const run =
      this.code === undefined ? session.exec(quoteWords(this.command), options) : session.run(this.code, options);
    const { outcome, exitCode } = await followRun(this.context, session, run, {
      quiet: this.json,
      destroyOnSecondInterrupt: false,
    });
    if (this.json && outcome) this.printJson(runDocument(session, outcome, this.context.requestId));
    return exitCode;
  }
}
