import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionApps extends SessionCommand {
  static override paths = [['session', 'apps'], ['apps']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'List the services of a session',
    details: 'What its image offers, and the ports announced with `--preopen`. `app NAME SERVICE` opens one here.',
    examples: [['What can be opened', '$0 session apps my-session']],
  });

  override async perform(): Promise<undefined> {
    const services = await (await this.open()).services();
    if (this.json) return void this.printJson({ services });
    const rows = services.map(({ name, protocol, ports }) => [name, protocol, ports.join(', ')]);
    writeTable(this.context.stdout, ['service', 'protocol', 'ports'], rows);
    return undefined;
  }
}
