import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class InstallationKeyShowCommand extends OperatorCommand {
  static override paths = [['mgr', 'installation-key', 'show']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show which keys encrypt secrets, how many each, and which managers have them',
    details: `
      Secrets are the secret keys of key pairs, the key pairs of cluster sessions, and passwords for registries. \`current\`
      encrypts, \`old\` only decrypts, \`next\` was added and waits for \`reencrypt\`. Keys themselves are never shown.
    `,
    examples: [['Before and after each step of a rotation', '$0 mgr installation-key show']],
  });

  async perform(): Promise<number> {
    const { file, keys, unknown } = await this.withOperator((operator) => operator.installationKeys());
    if (this.json) this.printJson({ file, keys, unknown });
    else {
      const rows = keys.map(({ id, state, since, inFile, secrets, managers }) => {
        const count = Object.values(secrets).reduce((sum, each) => sum + each, 0);
        return [id, state, since ?? '', String(count), inFile ? 'yes' : 'no', managers.join(', ')];
      });
      writeTable(this.context.stdout, ['key', 'state', 'encrypts since', 'secrets', 'in file', 'managers'], rows);
      this.say(`The file of this machine: ${file}`);
      if (unknown.length > 0) this.say(`Nothing is known of the keys of ${unknown.join(', ')}.`);
    }
    return 0;
  }
}
