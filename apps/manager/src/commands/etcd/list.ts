import { writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class EtcdListCommand extends OperatorCommand {
  static override paths = [['mgr', 'etcd', 'list']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show settings of the installation',
    examples: [
      ['All', '$0 mgr etcd list'],
      ['Those that begin alike', '$0 mgr etcd list volumes/'],
    ],
  });

  prefix = Option.String({ name: 'PREFIX', required: false });

  async perform(): Promise<number> {
    const settings = await this.withOperator((operator) => operator.listSettings({ prefix: this.prefix ?? '' }));
    if (this.json) this.printJson({ settings });
    else if (settings.length === 0) this.say('No settings.');
    else {
      const rows = settings.map(({ key, value, revision }) => [key, value, String(revision)]);
      writeTable(this.context.stdout, ['key', 'value', 'revision'], rows);
    }
    return 0;
  }
}
