import { AppError } from '@backend.ai/core';
import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class PeersRotateCommand extends OperatorCommand {
  static override paths = [['mgr', 'peers', 'rotate']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'replace the key of a component: the present one is withdrawn, a token lets a new one in',
    details: `
      On the machine of the component: end it, remove its key file (keys/agent.pem in the folder of an agent), set the
      token as manager.join-token, start it again. Its kernels go on meanwhile.
    `,
    examples: [['The key of an agent was seen by others', '$0 mgr peers rotate i-1']],
  });

  id = Option.String({ name: 'ID' });

  async perform(): Promise<number> {
    const { id } = this;
    const { token, expiresAt } = await this.withOperator(async (operator) => {
      const peer = (await operator.listPeers()).find((each) => each.id === id);
      if (!peer) throw new AppError('object-not-found', `There is no peer "${id}".`);
      if (peer.kind === 'manager') {
        throw new AppError('invalid-input', `"${id}" is a manager: managers join without a token.`, {
          hint: `End it, then: ./backend.ai mgr peers revoke ${id}   remove its key file (keys/manager.pem), start it`,
        });
      }
      if (peer.revokedAt === null) await operator.revokePeer({ id });
      const group = peer.resourceGroup === null ? {} : { resourceGroup: peer.resourceGroup };
      return await operator.createPeerToken({ kind: peer.kind, ...group });
    });
    if (this.json) this.printJson({ id, token, expiresAt });
    else {
      this.context.stdout.write(`${token}\n`);
      this.context.stderr.write(`The old key of ${id} is withdrawn. To be used once, before ${expiresAt}.\n`);
    }
    return 0;
  }
}
