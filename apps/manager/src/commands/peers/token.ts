import { parseSpanMs } from '@backend.ai/cli-kit';
import { peerKinds } from '@backend.ai/contract';
import { Command, Option, UsageError } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class PeersTokenCommand extends OperatorCommand {
  static override paths = [['mgr', 'peers', 'token']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'make a single-use token with which an agent or another component joins',
    details: `
      The token is a secret. It goes into the setting manager.join-token of the component that is to join.

      KIND is agent, storage-proxy, coordinator or worker.
    `,
    examples: [
      ['For an agent', '$0 mgr peers token agent'],
      ['For an agent of another group, to be used within a day', '$0 mgr peers token agent --group gpu --ttl 1d'],
    ],
  });

  kind = Option.String({ name: 'KIND' });
  group = Option.String('--group', { description: 'Resource group that the agent becomes part of' });
  ttl = Option.String('--ttl', '1h', { description: 'How long the token may be used: 30m, 1d (default 1h)' });

  async perform(): Promise<number> {
    const { kind, group } = this;
    if (!isJoiningKind(kind)) {
      const managers = kind === 'manager' ? ': managers join without a token, with the installation key' : '';
      throw new UsageError(`KIND is one of ${joiningKinds.join(', ')}, not "${kind}"${managers}.`);
    }
    const options = { kind, ttlMs: parseSpanMs('--ttl', this.ttl), ...(group ? { resourceGroup: group } : {}) };
    const { token, expiresAt } = await this.withOperator((operator) => operator.createPeerToken(options));
    if (this.json) this.printJson({ token, expiresAt });
    else {
      this.context.stdout.write(`${token}\n`);
      this.context.stderr.write(`To be used once, before ${expiresAt}.\n`);
    }
    return 0;
  }
}

const joiningKinds = peerKinds.filter((kind) => kind !== 'manager');

function isJoiningKind(text: string): text is (typeof joiningKinds)[number] {
  return (joiningKinds as readonly string[]).includes(text);
}
