import { writeTable } from '@backend.ai/cli-kit';
import { amountForPeople } from '@backend.ai/core';
import { Command } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

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
        percent(cpu.percent),
        percent(cpu.averagePercent),
        percent(cpu.capacityPercent),
        cpu.usedMs === null ? '-' : `${(cpu.usedMs / 1000).toFixed(1)} s`,
        bytes(memory.bytes),
        bytes(memory.peakBytes),
        bytes(memory.capacityBytes),
        measuredAt ?? 'not yet',
      ]),
    );
  }
}

function percent(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(1)}%`;
}

function bytes(value: number | null): string {
  return value === null ? '-' : amountForPeople('mem', BigInt(Math.round(value)) * 1000n);
}
