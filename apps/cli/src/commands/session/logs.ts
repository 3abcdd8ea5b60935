import { parseWhole } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionLogs extends SessionCommand {
  static override paths = [['session', 'logs'], ['logs']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Print what a session wrote',
    details: 'A session that starts anew begins an empty log; the ends of those before it are kept, of the last five.',
    examples: [
      ['All of it', '$0 session logs my-session'],
      ['What it wrote before it was restarted', '$0 session logs my-session --attempt 1'],
    ],
  });

  attempt = Option.String('--attempt', {
    description: 'The n-th time that it was started, from 1; without it the present or last one',
  });

  override async perform(): Promise<undefined> {
    const logs = await (await this.open()).logs(parseWhole('--attempt', this.attempt));
    if (this.json) return void this.printJson({ logs });
    this.context.stdout.write(logs);
    if (logs !== '' && !logs.endsWith('\n')) this.context.stdout.write('\n');
  }
}
