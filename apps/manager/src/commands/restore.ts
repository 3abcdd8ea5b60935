import { resolve } from 'node:path';
import { Command, Option, UsageError } from 'clipanion';
import { OperatorCommand } from './operator-command.ts';

export class RestoreCommand extends OperatorCommand {
  static override paths = [['mgr', 'restore']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'fill an empty database, settings and keys from a backup',
    details: `
      The configuration names the new database. No manager may run on it. Agents find the installation again by
      themselves; what they started after the backup was made is ended.
    `,
    examples: [['After a disaster', '$0 mgr restore /var/backups/backend.ai.backup']],
  });

  file = Option.String({ name: 'FILE' });

  async perform(): Promise<number> {
    if (this.embeddedFolder !== undefined) {
      throw new UsageError('Restoring works on an installation with a configuration file.');
    }
    const file = resolve(this.context.cwd, this.file);
    const report = await this.restore(file);
    if (this.json) this.printJson({ ...report });
    this.say(`Restored as of ${report.createdAt}: ${report.rows} rows, ${report.settings} settings.`);
    return 0;
  }
}
