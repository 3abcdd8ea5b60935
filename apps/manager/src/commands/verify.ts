import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { OperatorCommand } from './operator-command.ts';

export class VerifyCommand extends OperatorCommand {
  static override paths = [['mgr', 'verify']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'check that the books of sessions, kernels and resources agree',
    details: 'Reads only, and may run while sessions start and end. Exit code 1 when something does not agree.',
    examples: [['Check', '$0 mgr verify']],
  });

  async perform(): Promise<number> {
    const violations = await this.withOperator((operator) => operator.verify());
    if (this.json) this.printJson({ violations });
    else if (violations.length === 0) this.say('Everything agrees.');
    else {
      const rows = violations.map(({ kind, subject, detail }) => [kind, subject, JSON.stringify(detail)]);
      writeTable(this.context.stdout, ['what', 'where', 'detail'], rows);
    }
    return violations.length === 0 ? 0 : 1;
  }
}
