import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { defaultPort } from '../config.ts';
import { examineMachine } from '../doctor.ts';
import { ClusterCommand } from './cluster-command.ts';
import { engineSocketOf } from './starting-command.ts';

const marks = { ok: '✓', missing: '✗', optional: '–' } as const;

export class DoctorCommand extends ClusterCommand {
  static override paths = [['doctor']];
  static override usage = Command.Usage({
    category: 'Cluster',
    description: 'show what this machine offers and lacks: isolation, runtimes, Docker, GPU',
    details: 'Everything is really tried. Exit code 1 when something is missing without which sessions cannot run.',
    examples: [['Examine this machine', '$0 doctor']],
  });

  async perform(): Promise<number> {
    const path = this.context.env.PATH ?? '/usr/bin:/bin';
    const { directory } = this;
    const engineSocket = engineSocketOf(this.context.env, directory.agent);
    const findings = await examineMachine({ port: defaultPort, path, dataDir: directory.root, engineSocket });
    if (this.json) this.printJson({ findings });
    else {
      writeTable(
        this.context.stdout,
        ['', 'topic', 'finding', 'what to do'],
        findings.map(({ state, topic, detail, hint }) => [marks[state], topic, detail, hint]),
      );
    }
    return findings.some(({ state }) => state === 'missing') ? 1 : 0;
  }
}
