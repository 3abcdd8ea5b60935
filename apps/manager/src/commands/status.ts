import { writeFields } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import type { ManagerStatusView } from '../admin.ts';
import { storeNames } from '../store-names.ts';
import { OperatorCommand } from './operator-command.ts';

export class ManagerStatusCommand extends OperatorCommand {
  static override paths = [['mgr', 'status']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'show what the manager on this machine does now',
    details: 'Exit code 1 when none runs.',
    examples: [['Look at it', '$0 mgr status']],
  });

  /** Whoever looks has not the time that a backup has. */
  protected readonly patienceMs: number = 5_000;

  async perform(): Promise<number> {
    const status = await this.callManager<ManagerStatusView>('status', {}, this.patienceMs);
    if (this.json) {
      this.printJson({ ...status });
      return 0;
    }
    writeFields(this.context.stdout, [
      ['Manager', `${status.managerId}, version ${status.version}, process ${status.pid}`],
      ['Started', status.startedAt],
      ['Leads', leads(status)],
      ['API', status.api ?? '–'],
      ['RPC', status.rpc ?? '–'],
      ['Away', status.away.map(({ name, detail }) => `${name}: ${detail}`).join('\n') || 'nothing'],
      ['Agents', counts(status.agents)],
      ['Connected here', status.connectedAgents.join(', ') || 'none'],
      ['Live sessions', counts(status.sessions)],
      ['Memory', `${Math.round(status.residentBytes / 1024 ** 2)} MiB`],
    ]);
    for (const hint of new Set(status.away.flatMap((each) => each.hint ?? []))) this.say(hint);
    return 0;
  }
}

/** Null: nobody could be asked. */
function counts(by: Readonly<Record<string, number>> | null): string {
  if (by === null) return 'not known now';
  return (
    Object.entries(by)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ') || 'none'
  );
}

/** What a manager cannot lead without, and nobody on the same servers. */
const needed: readonly string[] = [storeNames.database, storeNames.etcd];

function leads({ epoch, revoked, away }: ManagerStatusView): string {
  if (revoked) return 'no: it has been revoked';
  if (epoch !== null) return `yes, epoch ${epoch}`;
  const missing = away.flatMap(({ name }) => (needed.includes(name) ? [name] : []));
  return missing.length > 0
    ? `no: it cannot without ${missing.join(' and ')}`
    : 'no: another manager does, or is being elected';
}
