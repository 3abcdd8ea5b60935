import type { CommandBundle } from '@backend.ai/cli-kit';
import type { Client } from '@backend.ai/client';
import { adminCommand, rowsOf } from './admin-command.ts';
import type { FieldOption } from './field-options.ts';

/** What the SDK has of a noun, as commands see it: the server checks what they send. */
interface Store<T> {
  list?(filter: never): Promise<readonly T[]>;
  get?(ref: string): Promise<object>;
  create?(input: never): Promise<object>;
  modify?(input: never): Promise<object>;
  delete?(ref: string): Promise<void>;
}

interface NounVerb {
  readonly description: string;
  /** What it does, and what follows the noun. */
  readonly example: readonly [what: string, line: string];
  readonly options?: readonly FieldOption[];
}

/** A noun that is listed, shown, added, updated and deleted, or some of these. */
export interface AdminNoun<T extends object> {
  /** On the command line; the first is its own word. */
  readonly words: readonly string[];
  /** As people call one. */
  readonly title: string;
  /** What a document calls one and several. */
  readonly keys: readonly [one: string, several: string];
  /** The field that names one. */
  readonly ref: 'name' | 'id';
  readonly store: (client: Client) => Store<T>;
  readonly list: NounVerb & {
    readonly columns: Readonly<Record<string, (item: T) => unknown>>;
    /** Told in place of an empty list. */
    readonly none?: string;
  };
  readonly info?: NounVerb;
  readonly add?: NounVerb & {
    /** Fields that are given by position. */
    readonly takes?: readonly string[];
    /** Told of what was made. */
    readonly made?: (item: T) => string;
  };
  readonly update?: NounVerb;
  readonly delete?: NounVerb;
}

type Commands = CommandBundle['commands'];

export function adminNoun<T extends object>(noun: AdminNoun<T>): Commands {
  const { words, title, keys, ref, list, info, add, update } = noun;
  const [one, several] = keys;
  const store = (client: Client): Required<Store<T>> => noun.store(client) as Required<Store<T>>;
  const verb = (name: string, { example: [what, line], ...rest }: NounVerb, takes: readonly string[]) => ({
    ...rest,
    words: words.map((word) => [word, name]),
    example: [what, `admin ${words[0]} ${line}`] as const,
    takes: takes.map((field) => field.toUpperCase()),
  });
  const { takes = ['name'], made } = add ?? {};

  const commands: Commands[number][] = [
    adminCommand(verb('list', list, []), async (client, { fields }) => {
      const items = await store(client).list(fields as never);
      const show = items.length === 0 && list.none !== undefined ? list.none : rowsOf(items, list.columns);
      return { document: { [several]: items }, show };
    }),
  ];
  if (info)
    commands.push(
      adminCommand(verb('info', info, [ref]), async (client, { names: [name = ''] }) => {
        const item = await store(client).get(name);
        return { document: { [one]: item }, show: item };
      }),
    );
  if (add)
    commands.push(
      adminCommand(verb('add', add, takes), async (client, { names, fields }) => {
        const input = { ...Object.fromEntries(takes.map((field, at) => [field, names[at]])), ...fields };
        const item = await store(client).create(input as never);
        return { document: { [one]: item }, show: made?.(item as T) ?? `The ${title} ${names[0]} was created.` };
      }),
    );
  if (update)
    commands.push(
      adminCommand(verb('update', update, [ref]), async (client, { names: [name = ''], fields }) => {
        const item = await store(client).modify({ [ref]: name, ...fields } as never);
        return { document: { [one]: item }, show: item };
      }),
    );
  if (noun.delete)
    commands.push(
      adminCommand(verb('delete', noun.delete, [ref]), async (client, { names: [name = ''] }) => {
        await store(client).delete(name);
        return { document: { deleted: name }, show: `The ${title} ${name} was deleted.` };
      }),
    );
  return commands;
}
