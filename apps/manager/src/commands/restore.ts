import { resolve } from 'node:path';
import { Command, Option } from 'clipanion';
import type { BackupReport } from '../services/backup/backup-service.ts';
import { OperatorCommand } from './operator-command.ts';

export class RestoreCommand extends OperatorCommand {
  static override paths = [['mgr', 'restore']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'fill an empty database, settings and keys from a backup',
    details: `
      The configuration names the new database, or --data-dir the folder of a new embedded cluster, which \`up\` starts
      then. No manager may run on it. What holds rows, other settings or other keys is refused before anything is changed;
      after a restore that was cut off, try again. Tokens to join that were open are not valid any more. Agents find the installation again by themselves; what they started after the backup
      was made is ended.
    `,
    examples: [
      ['After a disaster', '$0 mgr restore /var/backups/backend.ai.backup'],
      ['An embedded cluster in a new folder', '$0 mgr restore --data-dir /srv/cluster cluster.backup'],
    ],
  });

  file = Option.String({ name: 'FILE' });

  async perform(): Promise<number> {
    const file = resolve(this.context.cwd, this.file);
    const folder = this.embeddedFolder;
    const report = folder === undefined ? await this.restore(file) : await restoreInto(folder, file);
    if (this.json) this.printJson({ ...report });
    this.say(`Restored as of ${report.createdAt}: ${report.rows} rows, ${report.settings} settings.`);
    return 0;
  }
}

/** PGlite is large: loaded here only. */
async function restoreInto(folder: string, file: string): Promise<BackupReport> {
  const { restoreEmbedded } = await import('../restore-embedded.ts');
  return await restoreEmbedded(folder, file);
}
