import { Command, Option } from 'clipanion';
import type { Operator } from '../operator.ts';
import type { Removed, Retention } from '../services/retention/retention-service.ts';
import { RetentionCommand } from './retention-command.ts';

export class VacuumSessionsCommand extends RetentionCommand {
  static override paths = [['mgr', 'vacuum-sessions']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'remove sessions that ended long ago, with their logs and history',
    examples: [
      ['See how many', '$0 mgr vacuum-sessions --dry-run'],
      ['Keep a month', '$0 mgr vacuum-sessions --older-than 30d'],
    ],
  });

  olderThan = Option.String('--older-than', '7d', { description: 'Keep those that ended later: 12h, 7d, 4w' });
  protected override readonly what = 'sessions';

  protected override get age(): { option: string; text: string } {
    return { option: '--older-than', text: this.olderThan };
  }

  protected override remove(operator: Operator, retention: Retention): Promise<Removed> {
    return operator.vacuumSessions(retention);
  }
}
