import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class EtcdDeleteCommand extends OperatorCommand {
  static override paths = [['mgr', 'etcd', 'delete']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'remove one setting of the installation',
    examples: [['One', '$0 mgr etcd delete volumes/default']],
  });

  key = Option.String({ name: 'KEY' });

  async perform(): Promise<number> {
    await this.withOperator((operator) => operator.deleteSetting({ key: this.key }));
    if (this.json) this.printJson({ key: this.key, deleted: true });
    this.say(`${this.key} is removed.`);
    return 0;
  }
}
