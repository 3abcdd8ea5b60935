import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class InstallationKeyAddCommand extends OperatorCommand {
  static override paths = [['mgr', 'installation-key', 'add']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'make the next key, in the key file of this machine',
    details: `
      It encrypts nothing yet. Copy the file to the machines of all other managers: those that run read it within seconds,
      without a restart. Then \`reencrypt\`. Done twice it makes one key.
    `,
    examples: [['The first step of a rotation', '$0 mgr installation-key add']],
  });

  async perform(): Promise<number> {
    const added = await this.withOperator((operator) => operator.addInstallationKey());
    const { id, file, made, managers } = added;
    if (this.json) this.printJson({ ...added });
    this.say(`The key ${id} ${made ? 'was added to' : 'is already waiting in'} ${file}`);
    if (managers.length > 1) {
      this.say(`Copy this file to its place at every manager (${managers.join(', ')}); they read it within seconds.`);
    }
    this.say('Then: ./backend.ai mgr installation-key reencrypt');
    return 0;
  }
}
