import type { UsageReport } from '@backend.ai/client';
import { amountForPeople } from '@backend.ai/core';

type Rows = UsageReport['rows'];

const secondsPerHour = 3_600;
const gibibyte = 1024 ** 3;

/** CPU and memory first, others by name. */
export function slotsOf(rows: Rows): string[] {
  const names = new Set(rows.flatMap(({ used }) => Object.keys(used)));
  const first = ['cpu', 'mem'].filter((name) => names.delete(name));
  return [...first, ...[...names].sort()];
}

/** Amounts times hours; memory in GiB. */
export function hoursOf(slot: string, amountSeconds: string | undefined): number {
  const hours = Number(amountSeconds ?? 0) / secondsPerHour;
  return slot === 'mem' ? hours / gibibyte : hours;
}

export function amountHours(slot: string, amountSeconds: string | undefined): string {
  return `${hoursOf(slot, amountSeconds).toFixed(2)}${slot === 'mem' ? ' GiB' : ''}`;
}

/** What was measured of any row, in the order in which it is shown. */
export function measuresOf(rows: Rows): string[] {
  const names = new Set(rows.flatMap(({ measured }) => Object.keys(measured ?? {})));
  const first = ['cpuSeconds', 'memoryPeakBytes', 'readBytes', 'writtenBytes'].filter((name) => names.delete(name));
  return [...first, ...[...names].sort()];
}

/** Seconds as hours, bytes for people; `-`: not measured. */
export function measureText(name: string, value: number | undefined): string {
  if (value === undefined) return '-';
  return name.endsWith('Bytes')
    ? amountForPeople('mem', BigInt(Math.round(value)) * 1000n)
    : (value / secondsPerHour).toFixed(2);
}

/** `cpu used hours`, `memory peak`, `read`, `cuda busy hours` */
export function measureTitle(name: string): string {
  const known: Readonly<Record<string, string>> = {
    ...{ cpuSeconds: 'cpu used hours', memoryPeakBytes: 'memory peak', readBytes: 'read', writtenBytes: 'written' },
  };
  return known[name] ?? `${name.replace(/Seconds$/, '')} busy hours`;
}

/** Where the period that begins at a moment ends. Both in ISO form. */
export function periodEnd(begin: string, period: 'hour' | 'day' | 'month'): string {
  const end = new Date(begin);
  if (period === 'hour') end.setUTCHours(end.getUTCHours() + 1);
  else if (period === 'day') end.setUTCDate(end.getUTCDate() + 1);
  else end.setUTCMonth(end.getUTCMonth() + 1);
  return end.toISOString();
}

/** Amounts times seconds, exact: what other programs calculate with. The last period ends with the report. */
export function toCsv({ rows, by, period, to }: UsageReport): string {
  const [slots, measures] = [slotsOf(rows), measuresOf(rows)];
  const endOf = (begin: string): string => {
    const end = period === 'whole' ? to : periodEnd(begin, period);
    return end < to ? end : to;
  };
  const head = ['period_begin', 'period_end', `${by}_id`, by, 'sessions', ...slots.map(heldColumn)];
  const lines = rows.map(({ period: begin, id, name, sessions, used, measured }) => [
    begin,
    endOf(begin),
    id,
    name,
    String(sessions),
    ...slots.map((slot) => used[slot] ?? '0'),
    ...measures.map((name) => String(measured?.[name] ?? '')),
  ]);
  return [[...head, ...measures.map(measuredColumn)], ...lines]
    .map((line) => `${line.map(quoted).join(',')}\r\n`)
    .join('');
}

function heldColumn(slot: string): string {
  return slot === 'mem' ? 'held_mem_byte_seconds' : `held_${slot}_seconds`;
}

function measuredColumn(name: string): string {
  const known: Readonly<Record<string, string>> = {
    ...{ cpuSeconds: 'used_cpu_seconds', memoryPeakBytes: 'peak_memory_bytes' },
    ...{ readBytes: 'read_bytes', writtenBytes: 'written_bytes' },
  };
  return known[name] ?? `busy_${name.replace(/Seconds$/, '')}_seconds`;
}

/** Spreadsheets take what begins with these for a formula: names come from other people. */
function quoted(text: string): string {
  const harmless = /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
