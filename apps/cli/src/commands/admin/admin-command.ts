import { type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import type { Client } from '@backend.ai/client';
import { Command, Option, type Usage } from 'clipanion';
import { type FieldOption, FieldsCommand, fieldText } from './field-options.ts';

/** What an administrator does with a noun. */
export interface AdminVerb {
  /** What follows `admin`; the first are its own, the others do the same. */
  readonly words: readonly string[][];
  readonly description: string;
  /** What follows `./backend.ai` in the example, and what that does. */
  readonly example: readonly [what: string, line: string];
  /** Names of what has to be given, in order. */
  readonly takes?: readonly string[];
  /** Name of what may be given several times after them, at least once: as words, or with commas. */
  readonly several?: string;
  readonly options?: readonly FieldOption[];
}

interface Given {
  readonly names: readonly string[];
  /** What `several` is. */
  readonly items: readonly string[];
  readonly fields: Record<string, unknown>;
}

/** A command that answers a document: under `--json` as it is, else as `show` has it. */
export function adminCommand(
  { words, description, example: [what, line], takes = [], several, options = [] }: AdminVerb,
  perform: (client: Client, given: Given) => Promise<Answer>,
): CommandBundle['commands'][number] {
  return class extends FieldsCommand {
    static override paths = words.map((path) => ['admin', ...path]);
    static override usage: Usage = Command.Usage({
      category: 'Administration',
      description,
      examples: [[what, `$0 ${line}`]],
    });

    constructor() {
      super(options);
      for (const [at, name] of takes.entries())
        Object.defineProperty(this, `name_${at}`, {
          value: Option.String({ name, required: true }),
          writable: true,
          enumerable: true,
        });
      if (several !== undefined)
        Object.defineProperty(this, 'several', {
          value: Option.Rest({ name: several, required: 1 }),
          writable: true,
          enumerable: true,
        });
    }

    override async perform(): Promise<undefined> {
      const names = takes.map((_, at) => String((this as unknown as Record<string, unknown>)[`name_${at}`]));
      const { several: given = [] } = this as unknown as { several?: string[] };
      const items = given.flatMap((word) => word.split(',')).filter(Boolean);
      const { document, show, next } = await perform(await this.connect(), { names, items, fields: this.given() });
      if (this.json) return void this.printJson(document);
      if (next) this.note(next);
      if (typeof show === 'string') return void this.say(show);
      if (!('columns' in show)) return void this.show(show);
      if (show.rows.length === 0) return void this.say('There are none.');
      writeTable(
        this.context.stdout,
        show.columns,
        show.rows.map((row) => row.map(fieldText)),
      );
      if (show.total > show.rows.length) this.note(`${show.rows.length} of ${show.total}: see --limit and --offset`);
    }
  };
}

interface Answer {
  readonly document: Record<string, unknown>;
  readonly show: Shown;
  /** What people do with it. */
  readonly next?: string;
}

/** How somebody uses the command line with a key pair that was just made. */
export function loginHint(accessKey: string): string {
  return `The secret is not shown again. Its owner logs in with: ./backend.ai login --access-key ${accessKey}`;
}

export type Shown = string | object | ShownTable;
interface ShownTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
  readonly total: number;
}

/** A page as a table of some of its fields. */
export function table(page: { items: readonly object[]; total: number }, fields: readonly string[]): ShownTable {
  const rows = page.items.map((item) => fields.map((field) => (item as Record<string, unknown>)[field]));
  return { columns: fields, rows, total: page.total };
}

/** All of a list as a table: for each column, what it shows of one. */
export function rowsOf<T>(items: readonly T[], columns: Readonly<Record<string, (item: T) => unknown>>): ShownTable {
  const cells = Object.values(columns);
  const rows = items.map((item) => cells.map((cell) => yesNo(cell(item))));
  return { columns: Object.keys(columns), rows, total: rows.length };
}

function yesNo(value: unknown): unknown {
  return typeof value === 'boolean' ? (value ? 'yes' : 'no') : value;
}

export const pageOptions: readonly FieldOption[] = [
  { field: 'limit', flag: '--limit', kind: 'number', description: 'At most so many (100)' },
  { field: 'offset', flag: '--offset', kind: 'number', description: 'Leave out so many' },
];
export const inDomain: FieldOption = {
  field: 'domain',
  flag: '-d,--domain',
  kind: 'text',
  description: 'Of this domain',
};
export function inGroup(description: string): FieldOption {
  return { field: 'resourceGroup', flag: '--scaling-group,--resource-group', kind: 'text', description };
}
export const tenantFields: readonly FieldOption[] = [
  { field: 'description', flag: '--description', kind: 'text', description: 'For people' },
  { field: 'isActive', flag: '--active', kind: 'switch', description: 'Whether it may be used (--no-active: not)' },
  {
    field: 'totalResourceSlots',
    flag: '--total-resource-slots',
    kind: 'slots',
    description: 'What all its sessions may hold together: cpu=8,mem=16g',
  },
  { field: 'integrationId', flag: '--integration-id', kind: 'text', description: 'What another system calls it' },
];
export const policyOption: FieldOption = {
  field: 'resourcePolicy',
  flag: '--resource-policy',
  kind: 'text',
  description: 'Name of a resource policy',
};
