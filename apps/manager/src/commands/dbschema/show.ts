import { writeError, writeFields } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { OperatorCommand } from '../operator-command.ts';

export class SchemaShowCommand extends OperatorCommand {
  static override paths = [['mgr', 'dbschema', 'show']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show which version the schema of the database is, and which this program needs',
    details: 'Exit code 1 when the database has more than this program knows.',
    examples: [['Look at it', '$0 mgr dbschema show']],
  });

  async perform(): Promise<number> {
    const { current, head, pending, unknown } = await this.withSchema((schema) => schema.schemaStatus());
    // The package of the database is large.
    const newer = unknown.length > 0 ? (await import('@backend.ai/database')).newerSchema({ unknown }) : undefined;
    if (this.json) this.printJson({ current, head, pending, unknown });
    else {
      writeFields(this.context.stdout, [
        ['Current', current ?? 'none: the database is empty'],
        ['Head', head ?? '–'],
        ['To apply', pending.join(', ') || 'nothing'],
      ]);
      if (pending.length > 0) this.say('Bring it up to date: ./backend.ai mgr dbschema migrate');
    }
    if (newer) writeError(this.context.stderr, newer, this.context.requestId);
    return newer ? 1 : 0;
  }
}
