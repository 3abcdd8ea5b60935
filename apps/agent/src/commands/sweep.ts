import { writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import type { StrayView } from '../kernels/remains.ts';
import { AgentCommand } from './agent-command.ts';

/** Removing many containers takes an engine a while. */
const patienceMs = 120_000;

export class SweepCommand extends AgentCommand {
  static override paths = [['ag', 'sweep']];
  static override usage = Command.Usage({
    category: 'Agent',
    description: 'remove what bears the mark of the agent on this machine and belongs to no kernel',
    details: `
      Containers, networks and folders that an agent made and that no kernel of it has: it removes them by itself
      after it starts. What is younger than a minute stays, as it may still be in the making; what other agents made
      is left alone.
    `,
    examples: [
      ['See what would be removed', '$0 ag sweep --dry-run'],
      ['Remove it', '$0 ag sweep'],
    ],
  });

  dryRun = Option.Boolean('--dry-run', false, { description: 'Only tell what would be removed' });

  async perform(): Promise<number> {
    const { dryRun } = this;
    const strays = await this.ask<StrayView[]>('sweep', { dryRun }, patienceMs);
    if (this.json) this.printJson({ dryRun, strays });
    else if (strays.length === 0) this.say('Nothing is left over.');
    else {
      const fate = ({ due }: StrayView): string => (!due ? 'too young' : dryRun ? 'would be removed' : 'removed');
      const rows = strays.map((stray) => [stray.name, stray.since ?? '-', fate(stray)]);
      writeTable(this.context.stdout, ['stray', 'made at', 'outcome'], rows);
    }
    return 0;
  }
}
