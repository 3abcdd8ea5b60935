import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { OperatorCommand } from './operator-command.ts';

export class SchedulerLastExecutionTimeCommand extends OperatorCommand {
  static override paths = [['mgr', 'scheduler', 'last-execution-time']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show when the loops of the leading manager last ran',
    examples: [['Look at them', '$0 mgr scheduler last-execution-time']],
  });

  async perform(): Promise<number> {
    const ends = await this.withOperator((operator) => operator.loopEnds());
    if (this.json) this.printJson({ loops: ends });
    else if (Object.keys(ends).length === 0) this.say('No manager has led yet.');
    else writeTable(this.context.stdout, ['loop', 'ended last at'], Object.entries(ends));
    return 0;
  }
}
