import { AppError } from '@backend.ai/core';
import { z } from 'zod';
import type { DeviceMeasurement } from '../accelerator-plugin.ts';

/** What `rocm-smi --json` prints: an object by card, every value a text. Names of fields differ between its versions. */

export interface RocmCard {
  /** `card0` */
  readonly name: string;
  readonly index: number;
  /** Unique in the world where the card has such a number, else its place. */
  readonly id: string;
  readonly model: string;
  readonly busId: string;
  readonly memoryBytes: number | null;
}

export const cardQuery: readonly string[] = [
  ...['--showuniqueid', '--showproductname', '--showbus', '--showmeminfo', 'vram', '--json'],
];
export const measureQuery: readonly string[] = [
  ...['--showuniqueid', '--showbus', '--showuse', '--showmeminfo', 'vram', '--showpower', '--showtemp', '--json'],
];

const answerSchema = z.record(z.string(), z.record(z.string(), z.union([z.string(), z.number()]).transform(String)));

/** The answer to `cardQuery`, in the order of the cards. @throws AppError `internal` */
export function parseCards(text: string): RocmCard[] {
  return cardsIn(text).map(([name, fields]) => cardOf(name, fields));
}

/** The answer to `measureQuery`. @throws AppError `internal` */
export function parseMeasurements(text: string): DeviceMeasurement[] {
  return cardsIn(text).map(([name, fields]) => ({
    deviceId: cardOf(name, fields).id,
    utilizationPercent: numberIn(find(fields, /^GPU use \(%\)$/i)),
    memoryUsedBytes: numberIn(find(fields, /^VRAM Total Used Memory \(B\)$/i)),
    memoryTotalBytes: numberIn(find(fields, /^VRAM Total Memory \(B\)$/i)),
    powerWatts: numberIn(find(fields, /^(average|current socket) graphics package power \(W\)$/i)),
    temperatureCelsius: numberIn(find(fields, /^Temperature \(Sensor (edge|junction)\) \(C\)$/i)),
  }));
}

type Fields = Readonly<Record<string, string>>;

function cardsIn(text: string): Array<[string, Fields]> {
  let answer: unknown;
  try {
    // Warnings may stand before the document.
    answer = JSON.parse(text.slice(Math.max(0, text.indexOf('{'))));
  } catch (cause) {
    throw unreadable('no JSON', cause);
  }
  const parsed = answerSchema.safeParse(answer);
  if (!parsed.success) throw unreadable('no cards');
  return Object.entries(parsed.data)
    .filter(([name]) => /^card\d+$/.test(name))
    .sort(([left], [right]) => indexOf(left) - indexOf(right));
}

function cardOf(name: string, fields: Fields): RocmCard {
  const busId = find(fields, /^PCI Bus$/i)?.toLowerCase();
  if (busId === undefined || !/^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]$/.test(busId)) {
    throw unreadable(`${name} without a PCI bus`);
  }
  const unique = find(fields, /^Unique ID$/i);
  return {
    name,
    index: indexOf(name),
    id: unique !== undefined && /^0x[0-9a-f]+$/i.test(unique) ? unique.toLowerCase() : busId,
    model: find(fields, /^Card (series|model)$/i) ?? find(fields, /^Device Name$/i) ?? 'AMD GPU',
    busId,
    memoryBytes: numberIn(find(fields, /^VRAM Total Memory \(B\)$/i)),
  };
}

function find(fields: Fields, name: RegExp): string | undefined {
  return Object.entries(fields)
    .find(([key]) => name.test(key))?.[1]
    .trim();
}

/** `N/A` and the like stand for what a card does not tell. */
function numberIn(text: string | undefined): number | null {
  return text !== undefined && /^\d+(\.\d+)?$/.test(text) ? Number(text) : null;
}

function indexOf(name: string): number {
  return Number(name.slice('card'.length));
}

function unreadable(what: string, cause?: unknown): AppError {
  return new AppError('internal', `rocm-smi printed what cannot be understood: ${what}.`, { cause });
}
