import { Command, Option } from 'clipanion';
import { parseServiceOptions } from '../../execution/service-options.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionStartService extends SessionCommand {
  static override paths = [['session', 'start-service']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Start a service of a session, or find that it runs',
    examples: [
      ['A notebook', '$0 session start-service my-session jupyter'],
      ['End it', '$0 session start-service my-session jupyter --stop'],
    ],
  });

  service = Option.String({ name: 'SERVICE', required: true });
  env = Option.Array('-e,--env', [], { description: 'NAME=VALUE for the service' });
  arg = Option.Array('--arg', [], { description: 'NAME or NAME=VALUE for the service' });
  stop = Option.Boolean('--stop', false, { description: 'End it instead' });

  override async perform(): Promise<undefined> {
    const session = await this.open();
    if (this.stop) {
      await session.stopService(this.service);
      if (this.json) this.printJson({ service: this.service, status: 'stopped' });
      else this.context.stdout.write(`${this.service} was asked to end.\n`);
      return undefined;
    }
    const { status, ports } = await session.startService(this.service, parseServiceOptions(this.env, this.arg));
    if (this.json) this.printJson({ service: this.service, status, ports });
    else this.context.stdout.write(`${this.service} ${status === 'started' ? 'was started' : 'runs'}.\n`);
    return undefined;
  }
}
