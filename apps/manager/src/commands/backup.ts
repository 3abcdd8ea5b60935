import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import { OperatorCommand } from './operator-command.ts';

export class BackupCommand extends OperatorCommand {
  static override paths = [['mgr', 'backup']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'write database, settings and keys of the installation into one file',
    details: `
      Managers may go on meanwhile: the file holds one moment. It also holds keys: it is readable by its owner only, and
      should stay so. Files and logs in sessions are not part of it.

      An embedded cluster, whose database has one connection, answers nobody while its rows are read: a second or so for
      100,000 rows.
    `,
    examples: [['Every night', '$0 mgr backup /var/backups/backend.ai.backup']],
  });

  file = Option.String({ name: 'FILE' });

  async perform(): Promise<number> {
    const file = resolve(this.context.cwd, this.file);
    const report = await this.withOperator((operator) => operator.backup({ file }));
    if (this.json) this.printJson({ ...report });
    this.say(`${report.file}: ${report.rows} rows, ${report.settings} settings, ${report.keyFiles.length} keys.`);
    return 0;
  }
}
