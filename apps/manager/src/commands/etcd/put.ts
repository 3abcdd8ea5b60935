import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class EtcdPutCommand extends OperatorCommand {
  static override paths = [['mgr', 'etcd', 'put']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'set one setting of the installation',
    examples: [['One', '$0 mgr etcd put volumes/default local']],
  });

  key = Option.String({ name: 'KEY' });
  value = Option.String({ name: 'VALUE' });

  async perform(): Promise<number> {
    const entry = await this.withOperator((operator) => operator.putSetting({ key: this.key, value: this.value }));
    if (this.json) this.printJson({ ...entry });
    this.say(`${entry.key} is set, revision ${entry.revision}.`);
    return 0;
  }
}
