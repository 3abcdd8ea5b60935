import { ApiCommand, parsePairs, writeFields } from '@backend.ai/cli-kit';
import { Option, UsageError } from 'clipanion';

/** What an option sets, and how its text is read. */
export interface FieldOption {
  /** Of the contract's input. */
  readonly field: string;
  readonly flag: string;
  /** `limit`: a number, or `none` for null. `slots`: `cpu=2,mem=4g`, or JSON. `egress`: the name of a policy, or JSON. */
  readonly kind: 'text' | 'number' | 'limit' | 'slots' | 'switch' | 'json' | 'egress';
  readonly description: string;
  /** The command cannot do without it. Never a switch. */
  readonly required?: boolean;
}

/** A command with one option for each of some fields; what is not given is left as it is. */
export abstract class FieldsCommand extends ApiCommand {
  readonly #options: readonly FieldOption[];

  constructor(options: readonly FieldOption[]) {
    super();
    this.#options = options;
    for (const { field, flag, kind, description } of options) {
      const option = kind === 'switch' ? Option.Boolean(flag, { description }) : Option.String(flag, { description });
      Object.defineProperty(this, optionName(field), { value: option, writable: true, enumerable: true });
    }
  }

  /** @throws UsageError for a text that is not of its kind, and for what is required and missing */
  protected given(): Record<string, unknown> {
    const values: Record<string, unknown> = {};
    for (const { field, flag, kind, required } of this.#options) {
      const value = (this as unknown as Record<string, string | boolean | undefined>)[optionName(field)];
      if (value === undefined && required) throw new UsageError(`${longName(flag)} is missing.`);
      if (value !== undefined) values[field] = typeof value === 'boolean' ? value : read(kind, flag, value);
    }
    return values;
  }

  /** A view in two columns; what an object holds is one line each. */
  protected show(view: object): void {
    writeFields(
      this.context.stdout,
      Object.entries(view).map(([name, value]) => [name, linesOf(value)]),
    );
  }
}

/** `--size` of `-n,--size`. */
function longName(flag: string): string {
  return flag.split(',').find((name) => name.startsWith('--')) ?? flag;
}

/** Clear of the names that commands have themselves. */
function optionName(field: string): string {
  return `field_${field}`;
}

function read(kind: FieldOption['kind'], flag: string, text: string): unknown {
  switch (kind) {
    case 'slots':
      if (text.startsWith('{')) return parseJson(flag, text);
      return parsePairs(flag, text === '' ? [] : text.split(','));
    case 'json':
      return parseJson(flag, text);
    case 'egress':
      return text.startsWith('{') ? parseJson(flag, text) : { policy: text };
    case 'limit':
      if (text === 'none') return null;
      return parseNumber(flag, text);
    case 'number':
      return parseNumber(flag, text);
    default:
      return text;
  }
}

function parseNumber(flag: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new UsageError(`${flag} takes a whole number, not "${text}".`);
  return Number(text);
}

function parseJson(flag: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`${flag} takes JSON, not "${text}".`);
  }
}

function linesOf(value: unknown): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return fieldText(value);
  return (
    Object.entries(value)
      .map(([name, inner]) => `${name}: ${fieldText(inner)}`)
      .join('\n') || '-'
  );
}

export function fieldText(value: unknown): string {
  if (value === null || value === undefined) return '-';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
