import { Command, Option } from 'clipanion';
import type { Operator } from '../operator.ts';
import type { Removed, Retention } from '../services/retention/retention-service.ts';
import { RetentionCommand } from './retention-command.ts';

export class VacuumSessionsCommand extends RetentionCommand {
  static override paths = [['mgr', 'vacuum-sessions']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'remove sessions that ended long ago, with their logs and history',
    details: `
      Out of the database, where logs of ended kernels are, too. Their files are gone already: agents remove those of a
      kernel when it ends; what an agent could not remove then is shown and removed by \`ag sweep\` on its machine.
    `,
    examples: [
      ['See how many', '$0 mgr vacuum-sessions --dry-run'],
      ['Keep a month', '$0 mgr vacuum-sessions --older-than 30d'],
    ],
  });

  olderThan = Option.String('--older-than', '7d', { description: 'Keep those that ended later: 12h, 4w (default 7d)' });

  protected override get age(): { option: string; text: string } {
    return { option: '--older-than', text: this.olderThan };
  }

  protected override describe({ count, dryRun }: Removed, before: string): string {
    return `${count} sessions that ended before ${before} ${dryRun ? 'would be' : 'were'} removed, with their logs and history.`;
  }

  protected override remove(operator: Operator, retention: Retention): Promise<Removed> {
    return operator.vacuumSessions(retention);
  }
}
