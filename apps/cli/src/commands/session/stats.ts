import { writeTable } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';
import { bytesText, percentText } from '../../statistics-texts.ts';

export class SessionStats extends SessionCommand {
  static override paths = [['session', 'stats']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Show what a session uses now, or used last',
    details: 'CPU is in per cent of one core. An average looks back over the window of the utilisation checker.',
    examples: [['Whether it still computes', '$0 session stats my-session']],
  });

  override async perform(): Promise<undefined> {
    const stats = await (await this.open()).stats();
    if (this.json) return void this.printJson({ stats });
    writeTable(
      this.context.stdout,
      ['kernel', 'cpu', 'average', 'of', 'cpu time', 'memory', 'peak', 'of', 'measured'],
      stats.kernels.map(({ role, index, cpu, memory, measuredAt }) => [
        `${role}${index}`,
        percentText(cpu.percent),
        percentText(cpu.averagePercent),
        percentText(cpu.capacityPercent),
        cpu.usedMs === null ? '-' : `${(cpu.usedMs / 1000).toFixed(1)} s`,
        bytesText(memory.bytes),
        bytesText(memory.peakBytes),
        bytesText(memory.capacityBytes),
        measuredAt ?? 'not yet',
      ]),
    );
  }
}
