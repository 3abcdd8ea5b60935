import type { SessionStatisticsView } from '@backend.ai/client';
import { amountForPeople } from '@backend.ai/core';

/** 100 is one core. */
export function percentText(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(1)}%`;
}

export function bytesText(value: number | null): string {
  return value === null ? '-' : amountForPeople('mem', BigInt(Math.round(value)) * 1000n);
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
