import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class PeersListCommand extends OperatorCommand {
  static override paths = [['mgr', 'peers', 'list']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show which components may connect to managers',
    examples: [['Look at them', '$0 mgr peers list']],
  });

  async perform(): Promise<number> {
    const peers = await this.withOperator((operator) => operator.listPeers());
    if (this.json) this.printJson({ peers });
    else {
      const rows = peers.map(({ id, kind, resourceGroup, publicKey, createdAt, revokedAt }) => {
        return [id, kind, resourceGroup ?? '', `${publicKey.slice(0, 12)}…`, createdAt, revokedAt ?? ''];
      });
      writeTable(this.context.stdout, ['id', 'kind', 'group', 'key', 'since', 'revoked'], rows);
    }
    return 0;
  }
}
