import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class PeersRevokeCommand extends OperatorCommand {
  static override paths = [['mgr', 'peers', 'revoke']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'withdraw the right to connect from a component',
    details: `
      Every manager cuts its connections within seconds. It may join again with a new token; a manager, which stops
      leading, when it is started with a new key: end it, remove its key file, start it.
    `,
    examples: [['An agent that is not trusted any more', '$0 mgr peers revoke i-1']],
  });

  id = Option.String({ name: 'ID' });

  async perform(): Promise<number> {
    await this.withOperator((operator) => operator.revokePeer({ id: this.id }));
    if (this.json) this.printJson({ id: this.id, revoked: true });
    this.say(`${this.id} may not connect any more.`);
    return 0;
  }
}
