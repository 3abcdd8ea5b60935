import { resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { parseDurationMs, writeTable } from '@backend.ai/cli-kit';
import type { Session, SessionStatisticsView } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';
import { bytesText, percentText, shareText, sparkline } from '../../statistics-texts.ts';

export class SessionStats extends SessionCommand {
  static override paths = [['session', 'stats']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Show what a session uses now, or used last',
    details: `
      CPU is in per cent of one core. An average looks back over the window of the utilisation checker, as the line of
      little bars does. With --watch it is shown again and again, until the session has ended; with --json one document
      per line.
    `,
    examples: [
      ['Whether it still computes', '$0 session stats my-session'],
      ['Look on', '$0 session stats --watch my-session'],
      ['Draw what it used lately', '$0 session stats --plot use.svg my-session'],
    ],
  });

  watch = Option.Boolean('--watch', false, { description: 'Show it again and again, in place on a terminal' });
  interval = Option.String('--interval', '5s', { description: 'So often; agents measure every five seconds' });
  plot = Option.String('--plot', { description: 'Draw an SVG picture into this file instead' });

  override async perform(): Promise<undefined> {
    const session = await this.open();
    if (this.plot !== undefined) await this.#draw(session, this.plot);
    else if (this.watch) await this.#watch(session);
    else if (this.json) this.printJson({ stats: await session.stats() });
    else this.context.stdout.write(tableOf(await session.stats()));
  }

  async #watch(session: Session): Promise<void> {
    const { stdout } = this.context;
    const over = new AbortController();
    const forget = this.context.onInterrupt(() => over.abort());
    const intervalMs = parseDurationMs('--interval', this.interval);
    let shown = 0;
    try {
      for await (const stats of session.watchStats({ intervalMs, signal: over.signal })) {
        if (this.json) {
          stdout.write(`${JSON.stringify({ stats })}\n`);
          continue;
        }
        const table = tableOf(stats);
        // Up to where the last table began, and everything below away.
        if (isTerminal(stdout) && shown > 0) stdout.write(`\u001b[${shown}A\u001b[J`);
        stdout.write(table);
        shown = table.split('\n').length - 1;
      }
    } finally {
      forget();
    }
  }

  async #draw(session: Session, file: string): Promise<void> {
    // A library for charts takes a while to load; nothing else needs it.
    const [{ drawStatistics }, { savePicture }] = await Promise.all([
      import('./draw-statistics.ts'),
      import('../../draw-chart.ts'),
    ]);
    const path = resolve(this.context.cwd, file);
    await savePicture(path, await drawStatistics(await session.stats()));
    this.context.stdout.write(`${path}\n`);
  }
}

function isTerminal(stream: Writable & { readonly isTTY?: boolean }): boolean {
  return stream.isTTY === true;
}

function tableOf({ kernels }: SessionStatisticsView): string {
  let text = '';
  const into = { write: (more: string) => (text += more) } as unknown as Writable;
  writeTable(
    into,
    [
      'kernel',
      'cpu',
      'lately',
      'average',
      'of',
      'cpu time',
      'memory',
      'peak',
      'of',
      'disk r/w',
      'network r/s',
      'files',
      'measured',
    ],
    kernels.map(({ role, index, cpu, memory, metrics, series, measuredAt }) => [
      `${role}${index}`,
      percentText(cpu.percent),
      sparkline(series.map(({ cpuPercent }) => cpuPercent)),
      percentText(cpu.averagePercent),
      percentText(cpu.capacityPercent),
      cpu.usedMs === null ? '-' : `${(cpu.usedMs / 1000).toFixed(1)} s`,
      bytesText(memory.bytes),
      bytesText(memory.peakBytes),
      bytesText(memory.capacityBytes),
      `${bytesText(metrics.io_read?.current ?? null)}/${bytesText(metrics.io_write?.current ?? null)}`,
      `${shareText(metrics.net_rx)}/${shareText(metrics.net_tx)}`,
      bytesText(metrics.io_scratch_size?.current ?? null),
      measuredAt ?? 'not yet',
    ]),
  );
  const devices = kernels.flatMap(({ role, index, metrics }) =>
    Object.entries(metrics)
      .filter(([name]) => !standard.has(name))
      .map(([name, metric]) => [`${role}${index}`, name, shareText(metric)]),
  );
  if (devices.length > 0) writeTable(into, ['kernel', 'accelerator', 'now'], devices);
  for (const { role, index, overall } of kernels.filter((kernel) => kernel.overall.attempts > 1)) {
    const cpu = overall.cpuUsedMs === null ? '-' : `${(overall.cpuUsedMs / 1000).toFixed(1)} s`;
    const peak = bytesText(overall.memoryPeakBytes);
    text += `In all ${overall.attempts} attempts of ${role}${index}: cpu time ${cpu}, memory peak ${peak}\n`;
  }
  return text;
}

/** Shown in columns of their own. */
const standard = new Set(['cpu_util', 'cpu_used', 'mem', 'io_read', 'io_write', 'net_rx', 'net_tx', 'io_scratch_size']);
