import { writeFields } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import type { ManagerStatusView } from '../admin.ts';
import { OperatorCommand } from './operator-command.ts';

export class ManagerStatusCommand extends OperatorCommand {
  static override paths = [['mgr', 'status']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show what the manager on this machine does now',
    details: 'Exit code 1 when none runs.',
    examples: [['Look at it', '$0 mgr status']],
  });

  async perform(): Promise<number> {
    const status = await this.callManager<ManagerStatusView>('status');
    if (this.json) {
      this.printJson({ ...status });
      return 0;
    }
    const counts = (by: Readonly<Record<string, number>>): string =>
      Object.entries(by)
        .map(([name, count]) => `${count} ${name}`)
        .join(', ') || 'none';
    writeFields(this.context.stdout, [
      ['Manager', `${status.managerId}, version ${status.version}, process ${status.pid}`],
      ['Started', status.startedAt],
      ['Leads', leads(status)],
      ['API', status.api ?? '–'],
      ['RPC', status.rpc ?? '–'],
      ['Agents', counts(status.agents)],
      ['Connected here', status.connectedAgents.join(', ') || 'none'],
      ['Live sessions', counts(status.sessions)],
      ['Memory', `${Math.round(status.residentBytes / 1024 ** 2)} MiB`],
    ]);
    return 0;
  }
}

function leads({ epoch, revoked }: ManagerStatusView): string {
  if (revoked) return 'no: it has been revoked';
  return epoch === null ? 'no, another manager does' : `yes, epoch ${epoch}`;
}
