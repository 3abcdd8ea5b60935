import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionLogs extends SessionCommand {
  static override paths = [['session', 'logs'], ['logs']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Print what a session wrote',
    examples: [['All of it', '$0 session logs my-session']],
  });

  override async perform(): Promise<undefined> {
    const logs = await (await this.open()).logs();
    if (this.json) return void this.printJson({ logs });
    this.context.stdout.write(logs);
    if (logs !== '' && !logs.endsWith('\n')) this.context.stdout.write('\n');
  }
}
