import { Command, Option } from 'clipanion';
import { stopCluster } from '../cluster-process.ts';
import { ClusterCommand } from './cluster-command.ts';

export class DownCommand extends ClusterCommand {
  static override paths = [['down']];
  static override usage = Command.Usage({
    category: 'Cluster',
    description: 'end the cluster of this machine and its sessions',
    examples: [
      ['End it', '$0 down'],
      ['Let sessions go on; the next start adopts them', '$0 down --keep-sessions'],
    ],
  });

  keepSessions = Option.Boolean('--keep-sessions', false, { description: 'Sessions go on without the cluster' });

  async perform(): Promise<number> {
    const result = await stopCluster(this.directory, { keepSessions: this.keepSessions, timeoutMs: 60_000 });
    if (this.json) this.printJson({ ...result });
    if (result.pid === null) this.say(`No cluster runs on ${this.directory.root}.`);
    else this.say(`The cluster has ended (process ${result.pid})${this.keepSessions ? '; its sessions go on' : ''}.`);
    return 0;
  }
}
