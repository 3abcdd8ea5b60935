import type { Metric, SessionStatisticsView } from '@backend.ai/client';
import { amountForPeople } from '@backend.ai/core';

/** 100 is one core. */
export function percentText(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(1)}%`;
}

export function bytesText(value: number | null): string {
  return value === null ? '-' : amountForPeople('mem', BigInt(Math.round(value)) * 1000n);
}

/** One metric in its unit: `3.5k/s`, `1g of 8g`, `30 percent`. */
export function shareText(metric: Metric | undefined): string {
  if (!metric) return '-';
  const { unit, current, capacity } = metric;
  if (unit === 'bps') return `${bytesText(current)}/s`;
  if (unit === 'bytes') return `${bytesText(current)}${capacity === null ? '' : ` of ${bytesText(capacity)}`}`;
  return `${Number(current.toFixed(1))} ${unit}`;
}

const bars = '▁▂▃▄▅▆▇█';
const mostBars = 20;

/** The newest values as little bars, the highest of them as the highest bar. What is not known is a gap. */
export function sparkline(values: readonly (number | null)[]): string {
  const shown = values.slice(-mostBars);
  const most = Math.max(...shown.map((value) => value ?? 0));
  const bar = (value: number): string => bars[most === 0 ? 0 : Math.round((value / most) * (bars.length - 1))] ?? '';
  return shown
    .map((value) => (value === null ? ' ' : bar(value)))
    .join('')
    .trim();
}

/** What all kernels use together, in one line. Null: nothing has been measured. */
export function useText({ kernels }: SessionStatisticsView): string | null {
  const measured = kernels.filter(({ measuredAt }) => measuredAt !== null);
  if (measured.length === 0) return null;
  const sum = (values: readonly (number | null)[]): number | null =>
    values.every((value) => value === null) ? null : values.reduce<number>((total, value) => total + (value ?? 0), 0);
  const cpu = percentText(sum(measured.map((kernel) => kernel.cpu.percent)));
  return `cpu ${cpu} of a core, memory ${bytesText(sum(measured.map((kernel) => kernel.memory.bytes)))}`;
}
