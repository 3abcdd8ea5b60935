import { parseDurationMs } from '@backend.ai/cli-kit';
import { Option } from 'clipanion';
import type { Operator } from '../operator.ts';
import type { Removed, Retention } from '../services/retention/retention-service.ts';
import { OperatorCommand } from './operator-command.ts';

/** A command that removes what is older than it needs to be. */
export abstract class RetentionCommand extends OperatorCommand {
  dryRun = Option.Boolean('--dry-run', false, { description: 'Only count what would go' });

  protected abstract readonly age: { readonly option: string; readonly text: string };
  /** In the plural: `sessions`. */
  protected abstract readonly what: string;
  protected abstract remove(operator: Operator, retention: Retention): Promise<Removed>;

  async perform(): Promise<number> {
    const { option, text } = this.age;
    const olderThanMs = parseDurationMs(option, text);
    const { count, dryRun } = await this.withOperator((operator) =>
      this.remove(operator, { olderThanMs, dryRun: this.dryRun }),
    );
    if (this.json) this.printJson({ count, dryRun, olderThanMs });
    this.say(`${count} ${this.what} ${dryRun ? 'would be' : 'were'} removed.`);
    return 0;
  }
}
