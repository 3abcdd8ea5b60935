import { ApiCommand, parseDurationMs } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { waitingLine } from '../../session-command.ts';

export class SessionRestart extends ApiCommand {
  static override paths = [['session', 'restart']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Start running sessions anew, under the same ids and names',
    details: 'Programs end. Files of the home folder stay where the session starts on the same agent again.',
    examples: [['And wait until it runs again', '$0 session restart my-session']],
  });

  noWait = Option.Boolean('--no-wait', false, { description: 'Return when the wish is recorded' });
  maxWait = Option.String('--max-wait', { description: 'Stop waiting after so many seconds' });
  sessions = Option.Rest({ name: 'NAMES', required: 1 });

  override async perform(): Promise<undefined> {
    const timeoutMs = this.maxWait === undefined ? 0 : parseDurationMs('--max-wait', this.maxWait);
    const client = await this.connect();
    const restarted = [];
    for (const name of this.sessions) {
      const session = await client.sessions.get(name);
      await session.restart();
      const onChange = waitingLine((text) => this.context.stderr.write(text));
      if (!this.noWait) await session.waitUntilRunning({ timeoutMs, onChange });
      restarted.push(session.view);
      this.say(`Session ${session.name}: ${session.view.status}`);
    }
    if (this.json) this.printJson({ sessions: restarted });
  }
}
