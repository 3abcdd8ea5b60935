import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class EtcdGetCommand extends OperatorCommand {
  static override paths = [['mgr', 'etcd', 'get']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'print one setting of the installation',
    examples: [['One', '$0 mgr etcd get volumes/default']],
  });

  key = Option.String({ name: 'KEY' });

  async perform(): Promise<number> {
    const entry = await this.withOperator((operator) => operator.getSetting({ key: this.key }));
    if (this.json) this.printJson({ ...entry });
    this.say(entry.value);
    return 0;
  }
}
