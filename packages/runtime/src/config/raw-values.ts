import { type ConfigOutline, fileSuffix, type Setting, type ValueKind } from './definition.ts';
import { nearestKey } from './nearest.ts';
import { describeOrigin, type Origin } from './origin.ts';
import { readToml } from './toml.ts';

/** One thing that is wrong with a configuration. Never holds the value of a secret. */
export interface ConfigProblem {
  readonly key: string | undefined;
  /** A place in a file, a variable or a flag; undefined for what stands nowhere. */
  readonly where: string | undefined;
  readonly message: string;
}

/** A value as one source gave it. */
export interface RawValue {
  readonly value: unknown;
  readonly origin: Origin;
}

/** What one source gave, by key; the key of a secret may carry `-file`. */
export interface Layer {
  readonly values: ReadonlyMap<string, RawValue>;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
}

/** A flag of a command, as it was typed: `{ key: 'http.port', text: '8091', flag: '--set http.port' }`. */
export interface FlagValue {
  readonly key: string;
  readonly text: string;
  readonly flag: string;
}

/** All keys that may be written, with those of secret files. */
function knownKeys({ settings }: ConfigOutline): Map<string, Setting> {
  return new Map(
    settings.flatMap((setting) => [
      [setting.key, setting] as const,
      ...(setting.secret ? [[`${setting.key}${fileSuffix}`, setting] as const] : []),
    ]),
  );
}

function didYouMean(near: string | undefined): string {
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** @param file As it is told to people. */
export function layerOfFile(definition: ConfigOutline, file: string, text: string): Layer {
  const reading = readToml(text);
  if ('error' in reading) {
    const { line, column, message } = reading.error;
    const where = describeOrigin({ kind: 'file', file, line, column });
    return { values: new Map(), problems: [{ key: undefined, where, message: `not TOML: ${message}` }], warnings: [] };
  }
  const known = knownKeys(definition);
  const sections = [...definition.sectionTexts.keys()];
  const values = new Map<string, RawValue>();
  const problems: ConfigProblem[] = [];
  const unknownSections = new Set<string>();
  for (const { path, value, line, column } of reading.entries) {
    const origin: Origin = { kind: 'file', file, line, column };
    const say = (key: string, message: string): number =>
      problems.push({ key, where: describeOrigin(origin), message });
    const [section = '', name] = path;
    const written = path.join('.');
    const setting = known.get(`${section}.${name}`);
    if (!sections.includes(section)) {
      // Once for all of its keys.
      if (unknownSections.has(section)) continue;
      unknownSections.add(section);
      if (name === undefined && value !== undefined) {
        const near = nearestKey(section, [...known.keys()]);
        say(section, `unknown key ${section} outside of any section${didYouMean(near)}`);
      } else say(section, `unknown section [${section}]${didYouMean(bracketed(nearestKey(section, sections)))}`);
    } else if (name === undefined) {
      if (value !== undefined) say(section, `${section} is a section: write [${section}] and its keys below`);
    } else if (!setting) {
      const key = `${section}.${name}`;
      if (path.length === 2 || value === undefined) {
        say(key, `unknown key ${written}${didYouMean(nearestKey(key, [...known.keys()]))}`);
      }
    } else if (setting.kind === 'map' && path.length > 2) {
      const key = setting.key;
      const before = values.get(key);
      const map = { ...(before?.value as Record<string, unknown> | undefined), [path.slice(2).join('.')]: value };
      values.set(key, { value: map, origin: before?.origin ?? origin });
    } else if (setting.kind === 'map' && value === undefined) {
      values.set(setting.key, { value: {}, origin });
    } else if (value === undefined || path.length > 2) {
      say(setting.key, `${section}.${name} takes ${setting.expected}, not a table`);
    } else values.set(written, { value, origin });
  }
  return { values, problems, warnings: [] };
}

function bracketed(section: string | undefined): string | undefined {
  return section === undefined ? undefined : `[${section}]`;
}

/** Variables that are set to nothing count as absent. */
export function layerOfEnvironment(
  definition: ConfigOutline,
  env: Readonly<Record<string, string | undefined>>,
): Layer {
  const values = new Map<string, RawValue>();
  const expected = new Set<string>();
  for (const [key, setting] of knownKeys(definition)) {
    const variable = key === setting.key ? setting.variable : `${setting.variable}_FILE`;
    expected.add(variable);
    const text = env[variable];
    if (text) values.set(key, { value: valueOfText(key, setting, text), origin: { kind: 'environment', variable } });
  }
  // Not an error: others may use the prefix, as Kubernetes does for services called backend-manager.
  const prefix = `BACKEND_${definition.component.toUpperCase().replaceAll('-', '_')}_`;
  const warnings = Object.keys(env)
    .filter((name) => name.startsWith(prefix) && env[name] && !expected.has(name))
    .map((name) => {
      const near = nearestKey(name, [...expected]);
      return `The environment variable ${name} names no setting${didYouMean(near)}${near ? '' : '.'}`;
    });
  return { values, problems: [], warnings };
}

export function layerOfFlags(definition: ConfigOutline, flags: readonly FlagValue[]): Layer {
  const known = knownKeys(definition);
  const values = new Map<string, RawValue>();
  const problems: ConfigProblem[] = [];
  for (const { key, text, flag } of flags) {
    const setting = known.get(key);
    if (!setting) {
      problems.push({
        key,
        where: flag,
        message: `unknown key ${key}${didYouMean(nearestKey(key, [...known.keys()]))}`,
      });
    } else if (setting.secret && key === setting.key) {
      const message = `${key} is a secret and flags are seen in the process list: give ${key}${fileSuffix} or $${setting.variable}`;
      problems.push({ key, where: flag, message });
    } else values.set(key, { value: valueOfText(key, setting, text), origin: { kind: 'flag', flag } });
  }
  return { values, problems, warnings: [] };
}

function valueOfText(key: string, setting: Setting, text: string): unknown {
  if (key !== setting.key) return text;
  const element = (part: string): unknown => scalarOfText(setting.elements ?? 'string', part.trim());
  if (setting.kind === 'list') return text.split(',').map(element);
  if (setting.kind !== 'map') return scalarOfText(setting.kind, text);
  const pairs = text.split(',').map((pair) => pair.split('='));
  // What is not of the form NAME=VALUE is refused by the schema, as a text.
  if (pairs.some((pair) => pair.length !== 2)) return text;
  return Object.fromEntries(pairs.map(([name = '', value = '']) => [name.trim(), element(value)]));
}

/** What does not read as the kind stays a text, which the schema refuses. */
function scalarOfText(kind: ValueKind, text: string): unknown {
  if (kind === 'boolean') return text === 'true' ? true : text === 'false' ? false : text;
  if ((kind === 'integer' || kind === 'number') && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  return text;
}
