import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class InstallationKeyRemoveOldCommand extends OperatorCommand {
  static override paths = [['mgr', 'installation-key', 'remove-old']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'remove keys that encrypt nothing any more from the key file of this machine',
    details: `
      Refuses while a secret is encrypted by them, or a manager might still use them. Do it on the machine of each manager,
      or copy the file once more. Backups made before hold the old key: they need it, and whoever has one can read it.
    `,
    examples: [['The last step of a rotation', '$0 mgr installation-key remove-old']],
  });

  async perform(): Promise<number> {
    const done = await this.withOperator((operator) => operator.removeOldInstallationKeys());
    const { file, removed, managers } = done;
    if (this.json) this.printJson({ ...done });
    this.say(removed.length === 0 ? `There is no old key in ${file}` : `Removed from ${file}: ${removed.join(', ')}`);
    if (managers.length > 0) {
      this.say(
        `Managers that had an old key some seconds ago: ${managers.join(', ')}. Do this on the machine of each.`,
      );
    }
    return 0;
  }
}
