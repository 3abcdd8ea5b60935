import { Command } from 'clipanion';
import { OperatorCommand } from './operator-command.ts';

export class SchedulerSnapshotCommand extends OperatorCommand {
  static override paths = [['mgr', 'scheduler', 'snapshot']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'print all that the scheduler decides upon, as JSON',
    details: `
      For \`mgr simulate\`, and for reports of what it did: ids, amounts, priorities and limits, no names, environments or keys.
      The manager on this machine answers, whether it leads or not.
    `,
    examples: [
      ['Keep it', '$0 mgr scheduler snapshot > snapshot.json'],
      ['What would happen with it', '$0 mgr simulate snapshot.json'],
    ],
  });

  async perform(): Promise<number> {
    const { text } = await this.callManager<{ text: string }>('schedulerSnapshot');
    if (this.json) this.printJson(JSON.parse(text) as Record<string, unknown>);
    else this.context.stdout.write(text);
    return 0;
  }
}
