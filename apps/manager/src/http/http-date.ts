/**
 * Dates as clients write them into the Date header: ISO 8601 (the Python client), RFC 1123 and 850 (browsers, curl),
 * asctime, and what JavaScript prints. A date without zone means UTC, whatever zone this machine is in.
 */
export interface ParsedDate {
  readonly epochMs: number;
  /** `YYYYMMDD` in the date's own offset: the first key of a signature is made from it. */
  readonly day: string;
}

/** Minutes east of UTC. Ambiguous names (IST, CST of China, BST of Bangladesh) mean what RFC 822 and most mails mean. */
const zones: Readonly<Record<string, number>> = {
  z: 0,
  ut: 0,
  utc: 0,
  gmt: 0,
  wet: 0,
  est: -300,
  edt: -240,
  cst: -360,
  cdt: -300,
  mst: -420,
  mdt: -360,
  pst: -480,
  pdt: -420,
  akst: -540,
  akdt: -480,
  hst: -600,
  bst: 60,
  cet: 60,
  west: 60,
  cest: 120,
  eet: 120,
  eest: 180,
  msk: 180,
  ist: 330,
  hkt: 480,
  sgt: 480,
  awst: 480,
  kst: 540,
  jst: 540,
  aest: 600,
  aedt: 660,
  nzst: 720,
  nzdt: 780,
};

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];

const time = String.raw`(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d{1,9}))?)?`;
const zone = String.raw`(?<zone>[A-Za-z]{1,5}|(?:UTC|GMT)?[+-]\d{2}(?::?\d{2})?)`;
const forms: readonly RegExp[] = [
  // 2023-09-06T01:02:03.456789+00:00
  new RegExp(String.raw`^(?<year>\d{4})-(?<month>\d{2})-(?<date>\d{2})[Tt ]${time} ?${zone}?$`),
  // 20230906T010203Z
  new RegExp(
    String.raw`^(?<year>\d{4})(?<month>\d{2})(?<date>\d{2})[Tt](?<hour>\d{2})(?<minute>\d{2})(?<second>\d{2})(?:[.,](?<fraction>\d{1,9}))?${zone}?$`,
  ),
  // Wed, 06 Sep 2023 01:02:03 GMT; Wednesday, 06-Sep-23 01:02:03 GMT
  new RegExp(
    String.raw`^(?:[A-Za-z]{3,9}, ?)?(?<date>\d{1,2})[ -](?<month>[A-Za-z]{3})[ -](?<year>\d{4}|\d{2}) ${time}(?: ?${zone})?$`,
  ),
  // Wed Sep  6 01:02:03 2023; Wed Sep 6 01:02:03 KST 2023
  new RegExp(String.raw`^[A-Za-z]{3} (?<month>[A-Za-z]{3}) {1,2}(?<date>\d{1,2}) ${time} (?:${zone} )?(?<year>\d{4})$`),
  // Wed Sep 06 2023 01:02:03 GMT+0900 (Korean Standard Time)
  new RegExp(
    String.raw`^[A-Za-z]{3} (?<month>[A-Za-z]{3}) (?<date>\d{1,2}) (?<year>\d{4}) ${time}(?: ${zone})?(?: \([^()]*\))?$`,
  ),
];

/** Undefined when the text is no date. */
export function parseHttpDate(text: string): ParsedDate | undefined {
  if (text.length > 100) return undefined;
  for (const form of forms) {
    const groups = form.exec(text.trim())?.groups;
    if (groups) return fromParts(groups);
  }
  return undefined;
}

function fromParts(parts: Record<string, string | undefined>): ParsedDate | undefined {
  const offset = parts.zone === undefined ? 0 : offsetMinutes(parts.zone);
  if (offset === undefined) return undefined;
  const year = fullYear(parts.year ?? '');
  const month = monthNumber(parts.month ?? '');
  const date = Number(parts.date);
  const hour = Number(parts.hour);
  const minute = Number(parts.minute);
  // A leap second counts as the last second of its minute.
  const second = Math.min(Number(parts.second ?? 0), 59);
  if (Number(parts.second ?? 0) > 60 || hour > 23 || minute > 59) return undefined;
  const day = new Date(0);
  day.setUTCFullYear(year, month - 1, date);
  if (day.getUTCMonth() !== month - 1 || day.getUTCDate() !== date) return undefined;
  const fraction = Number(`0.${parts.fraction ?? '0'}`) * 1000;
  const epochMs = day.getTime() + ((hour * 60 + minute - offset) * 60 + second) * 1000 + fraction;
  return { epochMs, day: `${pad(year, 4)}${pad(month, 2)}${pad(date, 2)}` };
}

function offsetMinutes(text: string): number | undefined {
  const known = zones[text.toLowerCase()];
  if (known !== undefined && Object.hasOwn(zones, text.toLowerCase())) return known;
  const match = /^(?:UTC|GMT)?([+-])(\d{2}):?(\d{2})?$/i.exec(text);
  if (!match) return undefined;
  const hours = Number(match[2]);
  const minutes = Number(match[3] ?? 0);
  if (hours > 18 || minutes > 59) return undefined;
  return (match[1] === '-' ? -1 : 1) * (hours * 60 + minutes);
}

/** Two digits as RFC 850 dates have them: 70 to 99 are of the last century. */
function fullYear(text: string): number {
  const year = Number(text);
  if (text.length > 2) return year;
  return year < 70 ? 2000 + year : 1900 + year;
}

function monthNumber(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : months.indexOf(text.toLowerCase()) + 1;
}

function pad(value: number, width: number): string {
  return String(value).padStart(width, '0');
}
