import { AppError } from '@backend.ai/core';
import { z } from 'zod';

/** What a component can be told: two levels, sections and their settings, as tables and keys of a TOML file. */
export type ConfigShape = Readonly<Record<string, z.ZodObject>>;

export type ConfigValues<Shape extends ConfigShape> = {
  readonly [section in keyof Shape]: z.output<Shape[section]>;
};

/** Says what is wrong between settings, at one of them: `say('rpc.tls-key-file', 'is needed beside …')`. */
export type SayProblem = (key: string, message: string) => void;

/** What a configuration is about, without the types of its values. */
export interface ConfigOutline {
  /** `manager`: names `configs/manager.toml`, `docs/config/manager.md` and the variables `BACKEND_MANAGER_…`. */
  readonly component: string;
  /** The word of its commands: `mgr`. */
  readonly command: string;
  /** What the component is, in one sentence. */
  readonly purpose: string;
  readonly defaultFile: string;
  readonly sampleFile: string;
  readonly settings: readonly Setting[];
  /** Descriptions by the names that sections have in files. */
  readonly sectionTexts: ReadonlyMap<string, string>;
}

export interface ConfigDeclaration<Shape extends ConfigShape>
  extends Pick<ConfigOutline, 'component' | 'command' | 'purpose'> {
  /** Each section a strict object with a description; each setting with a description and, mostly, a default. */
  readonly sections: Shape;
  /** Combinations. Runs when every single value is right. */
  readonly check?: (values: ConfigValues<Shape>, say: SayProblem) => void;
}

export interface ConfigDefinition<Shape extends ConfigShape> extends ConfigDeclaration<Shape>, ConfigOutline {}

export type ValueKind = 'string' | 'integer' | 'number' | 'boolean' | 'list' | 'map';

/** One value that can be configured, with everything that is known of it beforehand. */
export interface Setting {
  /** As in files and flags: `http.max-body-bytes`. */
  readonly key: string;
  /** As in code: `['http', 'maxBodyBytes']`. */
  readonly path: readonly [section: string, name: string];
  /** `BACKEND_MANAGER_HTTP_MAX_BODY_BYTES`. */
  readonly variable: string;
  readonly schema: z.ZodType;
  readonly kind: ValueKind;
  /** Of the elements of lists and maps. */
  readonly elements: ValueKind | undefined;
  /** In words: `an integer from 0 to 65535`. */
  readonly expected: string;
  readonly description: string;
  readonly unit: string | undefined;
  readonly example: unknown;
  /** What it is when nobody says anything, before transformation. */
  readonly default: unknown;
  readonly required: boolean;
  readonly secret: boolean;
  readonly isPath: boolean;
  /** A path of something that must be there and readable. */
  readonly mustBeReadable: boolean;
}

/** A secret may stand in a file of its own, named by this key. */
export const fileSuffix = '-file';

export function defineConfig<Shape extends ConfigShape>(
  declaration: ConfigDeclaration<Shape>,
): ConfigDefinition<Shape> {
  let settings: Setting[] | undefined;
  const { component, sections } = declaration;
  return {
    ...declaration,
    defaultFile: `configs/${component}.toml`,
    sampleFile: `configs/${component}.sample.toml`,
    // When they are asked for: most commands of a component need none.
    get settings() {
      settings ??= listSettings(component, sections);
      return settings;
    },
    sectionTexts: new Map(Object.entries(sections).map(([name, schema]) => [kebab(name), schema.description ?? ''])),
  };
}

/** @throws AppError `internal` when two settings have one name in the environment or one has no description */
function listSettings(component: string, sections: ConfigShape): Setting[] {
  const settings = Object.entries(sections).flatMap(([section, object]) =>
    Object.entries(object.shape).map(([name, schema]) =>
      describeSetting(component, section, name, schema as z.ZodType),
    ),
  );
  const variables = new Set<string>();
  for (const { variable, key, description, secret } of settings) {
    const names = secret ? [variable, `${variable}_FILE`] : [variable];
    if (names.some((text) => variables.has(text))) throw new AppError('internal', `${variable} has two meanings.`);
    for (const text of names) variables.add(text);
    if (!description) throw new AppError('internal', `The setting ${key} has no description.`);
  }
  return settings;
}

interface SchemaFacts {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly pattern?: string;
  readonly format?: string;
  readonly items?: SchemaFacts;
  readonly additionalProperties?: SchemaFacts;
  readonly propertyNames?: SchemaFacts;
  readonly default?: unknown;
  readonly description?: string;
  readonly unit?: string;
  readonly example?: unknown;
  readonly expected?: string;
  readonly secret?: boolean;
  readonly path?: boolean;
  readonly readable?: boolean;
}

function describeSetting(component: string, section: string, name: string, schema: z.ZodType): Setting {
  const facts = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as SchemaFacts;
  const key = `${kebab(section)}.${kebab(name)}`;
  const elements = facts.items ?? facts.additionalProperties;
  return {
    key,
    path: [section, name],
    variable: `BACKEND_${component}_${key}`.toUpperCase().replaceAll(/[.-]/g, '_'),
    schema,
    kind: kindOf(facts),
    elements: typeof elements === 'object' && elements !== null ? kindOf(elements) : undefined,
    expected: expectedOf(facts),
    description: facts.description ?? '',
    unit: facts.unit,
    example: facts.example,
    default: facts.default,
    required: !schema.safeParse(undefined).success,
    secret: facts.secret === true,
    isPath: facts.path === true,
    mustBeReadable: facts.readable === true,
  };
}

function kindOf({ type }: SchemaFacts): ValueKind {
  if (type === 'array') return 'list';
  if (type === 'object') return 'map';
  if (type === 'integer' || type === 'number' || type === 'boolean') return type;
  return 'string';
}

function expectedOf(facts: SchemaFacts): string {
  if (facts.expected) return facts.expected;
  if (facts.enum) return `one of ${facts.enum.map((value) => JSON.stringify(value)).join(', ')}`;
  const kind = kindOf(facts);
  if (kind === 'list') return `a list, each ${expectedOf(facts.items ?? {})}`;
  if (kind === 'map') {
    const names = facts.propertyNames?.enum?.join(', ') ?? 'names';
    return `a table of ${names}, each with ${expectedOf(facts.additionalProperties ?? {})}`;
  }
  if (kind === 'boolean') return 'true or false';
  if (kind === 'string') return facts.format ? `a text (${facts.format})` : 'a text';
  const bounds = [
    facts.minimum === undefined || facts.minimum === Number.MIN_SAFE_INTEGER ? '' : ` from ${facts.minimum}`,
    facts.maximum === undefined || facts.maximum === Number.MAX_SAFE_INTEGER ? '' : ` to ${facts.maximum}`,
  ];
  return `${kind === 'integer' ? 'an integer' : 'a number'}${bounds.join('')}`;
}

/** `maxBodyBytes` → `max-body-bytes` */
function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
