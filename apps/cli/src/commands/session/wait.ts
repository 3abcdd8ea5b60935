import { parseDurationMs } from '@backend.ai/cli-kit';
import { Command, Option, UsageError } from 'clipanion';
import { SessionCommand, waitingLine } from '../../session-command.ts';
import { reasonOf } from '../../session-texts.ts';

export class SessionWait extends SessionCommand {
  static override paths = [['session', 'wait']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Wait until a session runs or has ended',
    details: 'The exit code is 1 when it ended without running, or when the time is over.',
    examples: [
      ['Until it can be used', '$0 session wait my-session'],
      ['A minute at most, until it has ended', '$0 session wait --until ended --max-wait 60 my-session'],
    ],
  });

  until = Option.String('--until', 'running', { description: 'running or ended' });
  maxWait = Option.String('--max-wait,--timeout', { description: 'Stop waiting after so many seconds' });

  override async perform(): Promise<undefined> {
    const { until } = this;
    if (until !== 'running' && until !== 'ended') throw new UsageError('--until takes running or ended.');
    const timeoutMs = this.maxWait === undefined ? 0 : parseDurationMs('--max-wait', this.maxWait);
    const session = await this.open();
    const onChange = waitingLine((text) => this.context.stderr.write(text));
    const view =
      until === 'running'
        ? await session.waitUntilRunning({ timeoutMs, onChange })
        : await session.waitUntilEnded({ timeoutMs });
    if (this.json) return void this.printJson({ session: view });
    this.say(`Session ${view.name}: ${view.status}, ${reasonOf(view)}`);
  }
}
