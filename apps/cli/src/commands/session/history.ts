import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionHistory extends SessionCommand {
  static override paths = [
    ['session', 'history'],
    ['session', 'status-history'],
  ];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Every change of state, with its reason and request',
    examples: [['How it came to its end', '$0 session history my-session']],
  });

  override async perform(): Promise<undefined> {
    const history = await (await this.open()).history();
    if (this.json) return void this.printJson({ history });
    writeTable(
      this.context.stdout,
      ['at', 'from', 'to', 'why', 'request'],
      history.map(({ at, from, to, reason, requestId }) => [
        at,
        from ?? '-',
        to,
        reason.message || reason.code,
        requestId,
      ]),
    );
  }
}
