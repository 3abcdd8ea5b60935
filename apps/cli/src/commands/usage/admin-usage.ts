import { Command, Option } from 'clipanion';
import { UsageCommand } from './usage-command.ts';

export class AdminUsage extends UsageCommand {
  static override paths = [['admin', 'usage']];
  static override usage = Command.Usage({
    category: 'Administration',
    description: 'Show what was used by user, project, domain or session, as far as you administer it',
    examples: [
      ['The last 30 days, by user', '$0 admin usage'],
      ['One project, month by month', '$0 admin usage --project physics --from 1y --period month'],
      ['Who used most memory, as a picture', '$0 admin usage --slot mem --plot memory.svg'],
    ],
  });

  user = Option.String('--user', { description: 'Only of this user, by e-mail address' });
  project = Option.String('--project', { description: 'Only of this project' });
  domain = Option.String('--domain', { description: 'Only of this domain' });

  protected override async select(): Promise<{
    by: 'user';
    user: string | undefined;
    project: string | undefined;
    domain: string | undefined;
  }> {
    return { by: 'user', user: this.user, project: this.project, domain: this.domain };
  }
}
