import { ApiCommand, writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { ageText, reasonOf, slotsText } from '../../session-texts.ts';

export class SessionList extends ApiCommand {
  static override paths = [['ps'], ['session', 'list'], ['session', 'ps']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'List your sessions',
    examples: [
      ['Those that are alive', '$0 ps'],
      ['Ended ones too', '$0 ps -a'],
      ['As an administrator, those of all whom you administer', '$0 ps --everyone'],
    ],
  });

  all = Option.Boolean('-a,--all', false, { description: 'Ended ones too' });
  everyone = Option.Boolean('--everyone', false, { description: 'Of everybody whose sessions you may see' });
  limit = Option.String('--limit', '100', { description: 'At most so many' });

  override async perform(): Promise<undefined> {
    const client = await this.connect();
    const { all, everyone } = this;
    const listed = await client.sessions.list({ all, limit: Number(this.limit), ...(everyone ? { everyone } : {}) });
    const sessions = listed.map(({ view }) => view);
    if (this.json) return void this.printJson({ sessions });
    if (sessions.length === 0) {
      return void this.say(
        this.all ? 'There are no sessions.' : 'No session is alive. See ended ones with: ./backend.ai ps -a',
      );
    }
    writeTable(
      this.context.stdout,
      ['name', ...(everyone ? ['access key', 'project', 'id'] : []), 'status', 'image', 'resources', 'age', 'why'],
      sessions.map((view) => [
        view.name,
        // Of others a name means nothing: commands take the id.
        ...(everyone ? [view.accessKey, `${view.domain}/${view.project}`, view.id] : []),
        view.status,
        view.image,
        slotsText(view.requested),
        ageText(view.createdAt),
        view.status === 'RUNNING' ? '' : reasonOf(view),
      ]),
    );
  }
}
