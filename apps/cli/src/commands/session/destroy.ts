import { ApiCommand } from '@backend.ai/cli-kit';
import { isTerminal } from '@backend.ai/core';
import { Command, Option } from 'clipanion';

export class SessionDestroy extends ApiCommand {
  static override paths = [['session', 'destroy'], ['session', 'rm'], ['session', 'kill'], ['rm'], ['kill']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'End sessions',
    examples: [
      ['Two at once', '$0 session destroy my-session other-session'],
      ['With all that wait for it', '$0 session destroy --recursive my-job'],
    ],
  });

  forced = Option.Boolean('-f,--forced', false, { description: 'Without giving its programs time to end' });
  recursive = Option.Boolean('-r,--recursive', false, { description: 'With all that depend on it' });
  noWait = Option.Boolean('--no-wait', false, { description: 'Return when the end is recorded' });
  sessions = Option.Rest({ name: 'NAMES', required: 1 });

  override async perform(): Promise<undefined> {
    const client = await this.connect();
    const ended = [];
    for (const name of this.sessions) {
      const session = await client.sessions.get(name);
      if (!isTerminal(session.view.status)) {
        const { dependents } = await session.destroy({ forced: this.forced, recursive: this.recursive });
        if (!this.noWait) await session.waitUntilEnded({ timeoutMs: 150_000 });
        for (const { id } of dependents) {
          const dependent = await client.sessions.get(id);
          if (!this.noWait) await dependent.waitUntilEnded({ timeoutMs: 150_000 });
          ended.push(dependent.view);
          this.say(`Session ${dependent.name}: ${dependent.view.status}`);
        }
      }
      ended.push(session.view);
      this.say(`Session ${session.name}: ${session.view.status}`);
    }
    if (this.json) this.printJson({ sessions: ended });
  }
}
