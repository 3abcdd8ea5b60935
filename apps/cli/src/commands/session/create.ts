import { parseDurationMs } from '@backend.ai/cli-kit';
import { hasCode } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { waitingLine } from '../../session-command.ts';
import { SessionCreatingCommand } from '../../session-creating-command.ts';
import { reasonOf } from '../../session-texts.ts';

export class SessionCreate extends SessionCreatingCommand {
  static override paths = [['session', 'create'], ['start']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Create a session and wait until it runs',
    examples: [
      ['A Python session', '$0 session create -r cpu=1 -r mem=512m --name my-session python'],
      ['Only queue it', '$0 session create --enqueue-only python'],
    ],
  });

  enqueueOnly = Option.Boolean('--enqueue-only', false, { description: 'Return as soon as it is queued' });
  maxWait = Option.String('--max-wait', { description: 'Stop waiting after so many seconds; it stays queued' });
  noReuse = Option.Boolean('--no-reuse', false, { description: 'Fail when a session of this name lives' });

  override async perform(): Promise<number | undefined> {
    const timeoutMs = this.maxWait === undefined ? 0 : parseDurationMs('--max-wait', this.maxWait);
    const options = { ...this.createOptions, reuseIfExists: !this.noReuse };
    const session = await (await this.connect()).sessions.create(options);
    if (!this.enqueueOnly) {
      const onChange = waitingLine((text) => this.context.stderr.write(text));
      try {
        await session.waitUntilRunning({ timeoutMs, onChange });
      } catch (thrown) {
        if (!hasCode(thrown, 'wait-timeout') || this.maxWait === undefined) throw thrown;
        // As asked: the session was made, the wait is over.
      }
    }
    if (this.json) return void this.printJson({ created: session.created, session: session.view });
    const { view } = session;
    const verb = session.created ? 'is created' : 'existed already';
    this.say(`Session ${view.name} ${verb}: ${view.status}${view.status === 'PENDING' ? `, ${reasonOf(view)}` : ''}`);
    this.say(`  id: ${view.id}`);
    if (view.status === 'RUNNING') this.say(`  next: ./backend.ai session exec ${view.name} -- ls -la`);
    else this.say(`  next: ./backend.ai session info ${view.name}`);
  }
}
