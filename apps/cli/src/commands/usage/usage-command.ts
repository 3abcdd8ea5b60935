import { resolve } from 'node:path';
import { ApiCommand, parseDurationMs, writeTable } from '@backend.ai/cli-kit';
import type { Client, UsageReport } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { Option, UsageError } from 'clipanion';
import { amountHours, measuresOf, measureText, measureTitle, slotsOf, toCsv } from './usage-texts.ts';

const keys = ['session', 'user', 'project', 'domain'] as const;
const periods = ['hour', 'day', 'month', 'whole'] as const;

/** A report of usage: as a table, CSV, JSON, or a picture. */
export abstract class UsageCommand extends ApiCommand {
  from = Option.String('--from', '30d', { description: 'A date, a moment, or how long ago: 2025-01-31, 30d' });
  to = Option.String('--to', { description: 'Until then, without it; now unless given' });
  by = Option.String('--by', { description: `One row for each ${keys.join(', ')}` });
  period = Option.String('--period', { description: `In periods of UTC: ${periods.join(', ')}` });
  csv = Option.Boolean('--csv', false, {
    description: 'Comma-separated, in amounts times seconds; held_… is what was reserved, used_… what was measured',
  });
  plot = Option.String('--plot', { description: 'Draw an SVG picture into this file instead' });
  slot = Option.String('--slot', 'cpu', { description: 'The resource that the picture shows' });

  /** Whose usage, and what it is shown by unless the user says otherwise. */
  protected abstract select(client: Client): Promise<{
    readonly by: (typeof keys)[number];
    readonly user?: string | undefined;
    readonly project?: string | undefined;
    readonly domain?: string | undefined;
  }>;

  override async perform(): Promise<undefined> {
    const client = await this.connect();
    const { by, ...filter } = await this.select(client);
    const report = await client.usage.report({
      ...filter,
      by: oneOf('--by', keys, this.by ?? by),
      period: oneOf('--period', periods, this.period ?? (this.plot === undefined ? 'whole' : 'day')),
      from: momentOf('--from', this.from),
      to: this.to === undefined ? null : momentOf('--to', this.to),
    });
    if (this.plot !== undefined) await this.#draw(report, this.plot);
    else if (this.json) this.printJson({ usage: report });
    else if (this.csv) this.context.stdout.write(toCsv(report));
    else this.#table(report);
  }

  #table({ rows, period, by }: UsageReport): void {
    const [slots, measures] = [slotsOf(rows), measuresOf(rows)];
    const titles = [...slots.map((slot) => `${slot} hours`), ...measures.map(measureTitle)];
    const head = [...(period === 'whole' ? [] : ['period']), by, 'sessions', ...titles];
    const cells = rows.map((row) => [
      ...(period === 'whole' ? [] : [row.period]),
      row.name,
      String(row.sessions),
      ...slots.map((slot) => amountHours(slot, row.used[slot])),
      ...measures.map((name) => measureText(name, row.measured?.[name])),
    ]);
    if (rows.length === 0) this.context.stdout.write('Nothing was used in this time.\n');
    else writeTable(this.context.stdout, head, cells);
  }

  async #draw(report: UsageReport, file: string): Promise<void> {
    // A library for charts takes a while to load; nothing else needs it.
    const [{ drawUsage }, { savePicture }] = await Promise.all([
      import('./draw-usage.ts'),
      import('../../draw-chart.ts'),
    ]);
    const known = slotsOf(report.rows);
    if (known.length > 0 && !known.includes(this.slot)) {
      throw new AppError('unknown-slot', `Nothing of "${this.slot}" was held in this time.`, {
        hint: `Draw one of these: ${known.join(', ')}`,
      });
    }
    const path = resolve(this.context.cwd, file);
    await savePicture(path, await drawUsage(report, this.slot));
    this.context.stdout.write(`${path}\n`);
  }
}

function oneOf<T extends string>(option: string, values: readonly T[], text: string): T {
  const found = values.find((value) => value === text);
  if (found === undefined) throw new UsageError(`${option} takes one of ${values.join(', ')}, not "${text}".`);
  return found;
}

function momentOf(option: string, text: string): string {
  if (/^\d{4}-\d{2}-\d{2}/.test(text)) {
    const ms = Date.parse(text);
    if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  }
  return new Date(Date.now() - parseDurationMs(option, text)).toISOString();
}
