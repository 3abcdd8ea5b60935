import { formatBinarySize, parseBinarySize } from './binary-size.ts';
import { AppError } from './errors.ts';

/**
 * Amounts of resources by slot name (`cpu`, `mem`, `cuda.device` ...), exact to three decimals.
 *
 * Inside, an amount is a bigint of thousandths; on the wire and in the database it is a decimal text, so that no
 * rounding happens between components. A slot that is not named has the amount zero.
 */
export type ResourceSlots = Readonly<Record<string, bigint>>;
/** The wire form: decimal texts, bytes for memory. */
export type ResourceSlotTexts = Record<string, string>;

export type SlotType = 'count' | 'bytes' | 'unique';

const thousand = 1000n;

/** The type a slot has when nobody declared one. */
export function slotTypeOf(name: string): SlotType {
  return name === 'mem' || name.includes('mem') ? 'bytes' : 'count';
}

/**
 * What a user asked for. Memory takes sizes (`512m`), the others decimals with at most three places. Zero amounts vanish.
 * @param known Names that exist in the cluster; undefined accepts any.
 * @throws AppError `invalid-input`, `unknown-slot`
 */
export function parseResourceSlots(
  input: Readonly<Record<string, string | number | null | undefined>>,
  known?: ReadonlySet<string>,
): ResourceSlots {
  const slots: Record<string, bigint> = {};
  for (const [name, value] of Object.entries(input)) {
    if (value === null || value === undefined) continue;
    if (!/^[a-z][a-z0-9.:_-]{0,63}$/i.test(name)) {
      throw wrongSlot(name, `"${name}" is not a resource name.`, 'is not the name of a resource');
    }
    if (known && !known.has(name)) {
      throw new AppError('unknown-slot', `No agent offers the resource "${name}".`, {
        ...(name === 'shmem' ? { hint: 'Give shared memory as a resource option: --resource-opts shmem=64m' } : {}),
        data: { fields: { [`resources.${name}`]: 'is offered by no agent' }, slot: name, known: [...known].sort() },
      });
    }
    const amount = slotTypeOf(name) === 'bytes' ? parseBytes(name, value) : parseMilli(name, String(value));
    if (amount > 0n) slots[name] = amount;
  }
  return slots;
}

/** @throws AppError `invalid-input` */
function parseBytes(name: string, value: string | number): bigint {
  try {
    return parseBinarySize(value) * thousand;
  } catch (thrown) {
    const { message, hint } = AppError.from(thrown);
    throw wrongSlot(name, message, 'is not a size', hint);
  }
}

function wrongSlot(name: string, message: string, problem: string, hint?: string): AppError {
  return new AppError('invalid-input', message, { hint, data: { fields: { [`resources.${name}`]: problem } } });
}

/** @throws AppError `invalid-input` */
function parseMilli(name: string, text: string): bigint {
  const match = /^(\d+)(?:\.(\d+))?$/.exec(text.trim());
  const fraction = (match?.[2] ?? '').replace(/0+$/, '');
  if (!match || fraction.length > 3) {
    const hint = 'Amounts are not negative and have at most three decimals.';
    throw wrongSlot(name, `"${text}" is not an amount of ${name}.`, 'is not an amount', hint);
  }
  return BigInt(match[1] ?? '0') * thousand + BigInt(fraction.padEnd(3, '0'));
}

/** From the wire or the database, where every amount is already a plain decimal. */
export function slotsFromTexts(texts: Readonly<Record<string, string>>): ResourceSlots {
  const slots: Record<string, bigint> = {};
  for (const [name, text] of Object.entries(texts)) slots[name] = amountFromText(text);
  return slots;
}

export function amountFromText(text: string): bigint {
  return parseMilli('a resource', text);
}

export function amountToText(amount: bigint): string {
  if (amount < 0n) return `-${amountToText(-amount)}`;
  const whole = amount / thousand;
  const rest = amount % thousand;
  return rest === 0n ? String(whole) : `${whole}.${String(rest).padStart(3, '0').replace(/0+$/, '')}`;
}

/** As people write it: sizes with a suffix, counts as they are. */
export function amountForPeople(name: string, amount: bigint): string {
  return slotTypeOf(name) === 'bytes' ? formatBinarySize(amount / thousand) : amountToText(amount);
}

export function slotsToTexts(slots: ResourceSlots): ResourceSlotTexts {
  return Object.fromEntries(Object.entries(slots).map(([name, amount]) => [name, amountToText(amount)]));
}

/** Users choose the names, so `constructor` must not find what every object inherits. */
function amountOf(slots: ResourceSlots, name: string): bigint {
  return Object.hasOwn(slots, name) ? (slots[name] ?? 0n) : 0n;
}

export function addSlots(left: ResourceSlots, right: ResourceSlots): ResourceSlots {
  const sum: Record<string, bigint> = { ...left };
  for (const [name, amount] of Object.entries(right)) sum[name] = amountOf(sum, name) + amount;
  return sum;
}

/** May go below zero; the caller decides what that means. */
export function subtractSlots(left: ResourceSlots, right: ResourceSlots): ResourceSlots {
  const rest: Record<string, bigint> = { ...left };
  for (const [name, amount] of Object.entries(right)) rest[name] = amountOf(rest, name) - amount;
  return rest;
}

/** Whether every amount of `wanted` is at most that of `available`. */
export function fits(wanted: ResourceSlots, available: ResourceSlots): boolean {
  return lackingSlots(wanted, available).length === 0;
}

/** Names of the slots of which there is too little, in alphabetical order. */
export function lackingSlots(wanted: ResourceSlots, available: ResourceSlots): string[] {
  return Object.keys(wanted)
    .filter((name) => amountOf(wanted, name) > amountOf(available, name))
    .sort();
}

export function equalSlots(left: ResourceSlots, right: ResourceSlots): boolean {
  return fits(left, right) && fits(right, left);
}
