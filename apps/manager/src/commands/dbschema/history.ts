import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class SchemaHistoryCommand extends OperatorCommand {
  static override paths = [['mgr', 'dbschema', 'history']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show which changes were made to the schema of the database, and when',
    examples: [['Look at it', '$0 mgr dbschema history']],
  });

  async perform(): Promise<number> {
    const migrations = await this.withSchema((schema) => schema.schemaHistory());
    if (this.json) this.printJson({ migrations });
    else if (migrations.length === 0) this.say('Nothing was applied yet.');
    else {
      const rows = migrations.map(({ name, appliedAt, hash }) => [name, appliedAt, hash.slice(0, 12)]);
      writeTable(this.context.stdout, ['migration', 'applied at', 'hash'], rows);
    }
    return 0;
  }
}
