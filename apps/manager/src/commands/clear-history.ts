import { Command, Option } from 'clipanion';
import type { Operator } from '../operator.ts';
import type { Removed, Retention } from '../services/retention/retention-service.ts';
import { RetentionCommand } from './retention-command.ts';

export class ClearHistoryCommand extends RetentionCommand {
  static override paths = [['mgr', 'clear-history']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'remove old records: what happened to sessions that have ended, what was used, and the audit log',
    examples: [
      ['See how much it is', '$0 mgr clear-history --dry-run'],
      ['Keep half a year', '$0 mgr clear-history --retention 26w'],
    ],
  });

  retention = Option.String('--retention', '1y', { description: 'Keep what is younger: 90d, 26w (default 1y)' });

  protected override get age(): { option: string; text: string } {
    return { option: '--retention', text: this.retention };
  }

  protected override describe({ count, kinds, dryRun }: Removed, before: string): string {
    const { history = 0, usage = 0, audit = 0 } = kinds;
    const parts = `${history} changes of ended sessions, ${usage} of use, ${audit} of the audit log`;
    return `${count} records from before ${before} ${dryRun ? 'would be' : 'were'} removed: ${parts}.`;
  }

  protected override remove(operator: Operator, retention: Retention): Promise<Removed> {
    return operator.clearHistory(retention);
  }
}
