import { ApiCommand } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';

/** What both do with each session that is named. */
abstract class PausingCommand extends ApiCommand {
  sessions = Option.Rest({ name: 'NAMES', required: 1 });
  protected abstract readonly verb: 'pause' | 'resume';

  override async perform(): Promise<undefined> {
    const client = await this.connect();
    const views = [];
    for (const name of this.sessions) {
      const session = await client.sessions.get(name);
      const view = await session[this.verb]();
      views.push(view);
      this.say(`Session ${view.name} ${this.verb === 'pause' ? 'stands still' : 'goes on'}`);
    }
    if (this.json) this.printJson({ sessions: views });
  }
}

export class SessionPause extends PausingCommand {
  static override paths = [['session', 'pause']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Make the programs of running sessions stand still',
    details:
      'Memory and devices stay theirs, and time limits go on. A paused session can be looked at and ended, not used.',
    examples: [['Until it is resumed', '$0 session pause my-session']],
  });
  protected readonly verb = 'pause';
}

export class SessionResume extends PausingCommand {
  static override paths = [['session', 'resume']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Let the programs of paused sessions go on',
    examples: [['Where they stood still', '$0 session resume my-session']],
  });
  protected readonly verb = 'resume';
}
