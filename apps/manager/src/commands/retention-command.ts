import { parseSpanMs } from '@backend.ai/cli-kit';
import { Option } from 'clipanion';
import type { Operator } from '../operator.ts';
import type { Removed, Retention } from '../services/retention/retention-service.ts';
import { OperatorCommand } from './operator-command.ts';

/** A command that removes what is older than it needs to be. */
export abstract class RetentionCommand extends OperatorCommand {
  dryRun = Option.Boolean('--dry-run', false, { description: 'Only count what would go' });

  protected abstract readonly age: { readonly option: string; readonly text: string };
  /** Of so many and older than that: `3 sessions that ended before …`. */
  protected abstract describe(removed: Removed, before: string): string;
  protected abstract remove(operator: Operator, retention: Retention): Promise<Removed>;

  async perform(): Promise<number> {
    const { option, text } = this.age;
    const olderThanMs = parseSpanMs(option, text);
    const before = new Date(Date.now() - olderThanMs).toISOString();
    const removed = await this.withOperator((operator) => this.remove(operator, { olderThanMs, dryRun: this.dryRun }));
    if (this.json) this.printJson({ ...removed, olderThanMs, before });
    this.say(this.describe(removed, before));
    return 0;
  }
}
