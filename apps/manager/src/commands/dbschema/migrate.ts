import { Command, Option } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class SchemaMigrateCommand extends OperatorCommand {
  static override paths = [['mgr', 'dbschema', 'migrate']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'bring the schema of the database to what this program needs',
    details: 'Safe to repeat, and when two do it at the same time. There is no way back but a backup.',
    examples: [
      ['All that is missing', '$0 mgr dbschema migrate'],
      ['No further than a named one', '$0 mgr dbschema migrate --to 0001_initial'],
    ],
  });

  to = Option.String('--to', { description: 'Name of the last one to apply; forward only' });

  async perform(): Promise<number> {
    const applied = await this.withSchema((schema) =>
      schema.migrateSchema(this.to === undefined ? {} : { to: this.to }),
    );
    if (this.json) this.printJson({ applied });
    for (const name of applied) this.say(`Applied ${name}.`);
    if (applied.length === 0) this.say('The schema is up to date.');
    return 0;
  }
}
