import { Command, Option } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionRename extends SessionCommand {
  static override paths = [['session', 'rename']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Give a running session another name',
    examples: [['From now on it is "final"', '$0 session rename draft final']],
  });

  newName = Option.String({ name: 'NEW_NAME' });

  override async perform(): Promise<undefined> {
    const session = await this.open();
    const view = await session.rename(this.newName);
    if (this.json) return void this.printJson({ session: view });
    this.say(`Session ${view.id} is now called ${view.name}`);
  }
}
