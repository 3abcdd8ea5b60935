import { Command } from 'clipanion';
import { writeExplanation } from '../../explanation-texts.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionExplain extends SessionCommand {
  static override paths = [['session', 'explain'], ['explain']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Why a session waits, what would let it start and when; or why it is where it is',
    details: `
      Asking changes nothing. Ids of agents are shown to superadmins; sessions of others are only counted.
      \`--json\` shows everything that the scheduler found.
    `,
    examples: [['Why it is pending', '$0 session explain my-session']],
  });

  override async perform(): Promise<undefined> {
    const explanation = await (await this.open()).explain();
    if (this.json) return void this.printJson({ explanation });
    writeExplanation(this.context.stdout, explanation);
  }
}
