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

/** Amounts times seconds, exact: what other programs calculate with. */
export function toCsv({ rows, by }: UsageReport): string {
  const [slots, measures] = [slotsOf(rows), measuresOf(rows)];
  const head = ['period', `${by}_id`, by, 'sessions', ...slots.map((slot) => `${slot}_seconds`), ...measures];
  const lines = rows.map(({ period, id, name, sessions, used, measured }) => [
    period,
    id,
    name,
    String(sessions),
    ...slots.map((slot) => used[slot] ?? '0'),
    ...measures.map((name) => String(measured?.[name] ?? '')),
  ]);
  return [head, ...lines].map((line) => `${line.map(quoted).join(',')}\r\n`).join('');
}

/** Spreadsheets take what begins with these for a formula: names come from other people. */
function quoted(text: string): string {
  const harmless = /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
