import type { UsageReport } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { drawChart, minuteOf } from '../../draw-chart.ts';
import { hoursOf, periodEnd } from './usage-texts.ts';

/** More would not be told apart; the rest is shown together. */
const mostNames = 8;

/** More bars would be thinner than a pixel. */
const mostPeriods = 1_000;

/** Bars by period, one colour for each of those who used most. SVG. */
export function drawUsage({ rows, by, from, to, period }: UsageReport, slot: string): Promise<string> {
  const totals = new Map<string, number>();
  for (const { name, used } of rows) totals.set(name, (totals.get(name) ?? 0) + hoursOf(slot, used[slot]));
  const ranked = [...totals].sort(([, one], [, other]) => other - one).map(([name]) => name);
  const named = ranked.slice(0, mostNames);
  const labels = period === 'whole' ? [from] : periodsBetween(from, to, period);
  const hours = (label: string, matches: (name: string) => boolean): number =>
    rows
      .filter((row) => (period === 'whole' || row.period === label) && matches(row.name))
      .reduce((sum, { used }) => sum + hoursOf(slot, used[slot]), 0);
  const seriesOf = (name: string, matches: (name: string) => boolean) => ({
    ...{ name, type: 'bar' as const, stack: 'all', barMaxWidth: 60 },
    data: labels.map((label) => Number(hours(label, matches).toFixed(3))),
  });
  const series = named.map((name) => seriesOf(name, (other) => other === name));
  if (ranked.length > named.length) series.push(seriesOf('others', (name) => !named.includes(name)));

  return drawChart({
    title: {
      text: `${slot} by ${by}`,
      subtext: `${minuteOf(from)} to ${minuteOf(to)} UTC`,
      left: 'center',
    },
    xAxis: { type: 'category', data: labels.map((label) => labelOf(label, period)) },
    yAxis: { type: 'value', name: slot === 'mem' ? 'GiB hours' : `${slot} hours` },
    series,
  });
}

/** Also those in which nothing was used. */
function periodsBetween(from: string, to: string, period: 'hour' | 'day' | 'month'): string[] {
  const at = new Date(from);
  const day = period === 'month' ? 1 : at.getUTCDate();
  let begin = new Date(
    Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), day, period === 'hour' ? at.getUTCHours() : 0),
  ).toISOString();
  const periods: string[] = [];
  for (; begin < to; begin = periodEnd(begin, period)) {
    if (periods.push(begin) > mostPeriods) {
      throw new AppError('invalid-input', `A picture has room for ${mostPeriods} periods.`, {
        hint: 'Take longer periods (--period month), or a shorter time (--from 30d).',
      });
    }
  }
  return periods;
}

function labelOf(moment: string, period: UsageReport['period']): string {
  if (period === 'month') return moment.slice(0, 7);
  return period === 'hour' ? minuteOf(moment).slice(5) : moment.slice(0, 10);
}
