import { writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

export class SessionLs extends SessionCommand {
  static override paths = [['session', 'ls']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'List files in a session',
    examples: [['A folder in its home', '$0 session ls my-session results']],
  });

  folder = Option.String({ name: 'PATH', required: false });

  override async perform(): Promise<undefined> {
    const listing = await (await this.open()).files(this.folder ?? '.');
    if (this.json) return void this.printJson({ ...listing });
    writeTable(
      this.context.stdout,
      ['mode', 'size', 'modified', 'name'],
      listing.files.map(({ mode, size, mtime, filename }) => [
        mode,
        String(size),
        new Date(mtime * 1000).toISOString().slice(0, 19).replace('T', ' '),
        filename,
      ]),
    );
  }
}
