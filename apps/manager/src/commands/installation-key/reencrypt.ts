import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class InstallationKeyReencryptCommand extends OperatorCommand {
  static override paths = [['mgr', 'installation-key', 'reencrypt']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'encrypt every secret by the newest key of this machine',
    details: `
      Waits some seconds until every manager has told that it has the key, and refuses otherwise: then nothing has changed.
      Managers go on meanwhile. If it is cut off, run it again; how far it came is shown by \`show\`.
    `,
    examples: [['The second step of a rotation, or after one that was cut off', '$0 mgr installation-key reencrypt']],
  });

  async perform(): Promise<number> {
    const done = await this.withOperator((operator) => operator.reencryptSecrets());
    if (this.json) this.printJson({ ...done });
    this.say(`${done.moved} secrets were moved; all are encrypted by the key ${done.id} now.`);
    return 0;
  }
}
