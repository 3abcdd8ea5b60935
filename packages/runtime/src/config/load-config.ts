import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { AppError, maskUrls } from '@backend.ai/core';
import {
  type ConfigDefinition,
  type ConfigOutline,
  type ConfigShape,
  type ConfigValues,
  fileSuffix,
  type Setting,
} from './definition.ts';
import { describeOrigin, type Origin } from './origin.ts';
import {
  type ConfigProblem,
  type FlagValue,
  type Layer,
  layerOfEnvironment,
  layerOfFile,
  layerOfFlags,
  type RawValue,
} from './raw-values.ts';

export interface ConfigSources {
  /** Instead of `configs/<component>.toml`; must exist then. */
  readonly file?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly flags?: readonly FlagValue[];
  /** What relative paths count from: those of files and those in settings. */
  readonly cwd: string;
}

/** One setting with the value it has. */
export interface EffectiveSetting {
  readonly setting: Setting;
  /** A `Secret` where the setting is one; undefined where nothing is set. */
  readonly value: unknown;
  readonly origin: Origin;
  /** The file that a secret was read from. */
  readonly secretFile: string | undefined;
}

export interface LoadedConfig<Shape extends ConfigShape = ConfigShape> {
  readonly values: ConfigValues<Shape>;
  /** As told to people. */
  readonly file: string;
  readonly fileFound: boolean;
  readonly settings: readonly EffectiveSetting[];
  /** What an operator should know and what does not keep the component from starting. */
  readonly warnings: readonly string[];
}

export interface ConfigExamination<Shape extends ConfigShape = ConfigShape> {
  readonly file: string;
  readonly fileFound: boolean;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
  /** Undefined when there are problems. */
  readonly loaded: LoadedConfig<Shape> | undefined;
}

/**
 * The configuration of a component: flags before environment before file before defaults, every value with its origin.
 * @throws AppError `config-invalid` that tells all problems at once
 */
export function loadConfig<Shape extends ConfigShape>(
  definition: ConfigDefinition<Shape>,
  sources: ConfigSources,
): LoadedConfig<Shape> {
  const { loaded, problems, file } = checkConfig(definition, sources);
  if (!loaded) throw configError(definition, file, problems);
  return loaded;
}

/** As `loadConfig`, with the problems as an answer. */
export function checkConfig<Shape extends ConfigShape>(
  definition: ConfigDefinition<Shape>,
  sources: ConfigSources,
): ConfigExamination<Shape> {
  const file = sources.file ?? definition.defaultFile;
  const read = readConfigFile(definition, file, sources);
  const layers = [
    layerOfFlags(definition, sources.flags ?? []),
    layerOfEnvironment(definition, sources.env),
    read.layer,
  ] as const;
  // In the order in which people look: the file, then what overrules it.
  const problems = layers.flatMap((layer) => layer.problems).reverse();
  const warnings = layers.flatMap((layer) => layer.warnings);
  // What a broken file would say is not known; its absence from the rest would only mislead.
  const readable = read.layer.problems.every(({ key }) => key !== undefined);
  const settings: EffectiveSetting[] = [];
  for (const setting of readable ? definition.settings : []) {
    const found = resolveSetting(setting, layers, sources.cwd);
    problems.push(...found.problems.map((problem) => missingFrom(problem, file, read.found)));
    warnings.push(...found.warnings);
    settings.push(found.effective);
  }
  const values = nest(settings) as ConfigValues<Shape>;
  if (problems.length === 0) {
    definition.check?.(values, (key, message) => {
      const at = settings.find((each) => each.setting.key === key);
      if (!at) throw new AppError('internal', `There is no setting ${key}.`);
      problems.push({
        key,
        where: at.origin.kind === 'default' ? undefined : describeOrigin(at.origin),
        message: `${key} ${message}`,
      });
    });
  }
  const examined = { file, fileFound: read.found, problems, warnings };
  return { ...examined, loaded: problems.length > 0 ? undefined : { ...examined, values, settings } };
}

export function configError(
  { component, command, sampleFile, defaultFile }: ConfigOutline,
  file: string,
  problems: readonly ConfigProblem[],
): AppError {
  const lines = problems.map(({ where, message }) => `  ${where === undefined ? '' : `${where}: `}${message}`);
  const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
  const missing = problems.some(({ message }) => message.endsWith('does not exist'));
  return new AppError('config-invalid', `The configuration of the ${component} has ${count}:\n${lines.join('\n')}`, {
    hint: missing
      ? `Make it from the sample: cp ${sampleFile} ${file}`
      : `Correct that, then check with: ./backend.ai ${command} config check${file === defaultFile ? '' : ` --config ${file}`}`,
    data: { problems },
  });
}

function readConfigFile(
  definition: ConfigOutline,
  file: string,
  { file: given, cwd }: ConfigSources,
): { readonly layer: Layer; readonly found: boolean } {
  const path = resolve(cwd, file);
  const nothing: Layer = { values: new Map(), problems: [], warnings: [] };
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && given === undefined) return { layer: nothing, found: false };
    const message = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`;
    return {
      layer: { ...nothing, problems: [{ key: undefined, where: undefined, message: `${file} ${message}` }] },
      found: false,
    };
  }
  const layer = layerOfFile(definition, file, text);
  const secrets = definition.settings.filter((setting) => setting.secret && layer.values.has(setting.key));
  if (secrets.length === 0 || !othersMayRead(path)) return { layer, found: true };
  const names = secrets.map(({ key }) => key).join(', ');
  return {
    layer: {
      ...layer,
      warnings: [`Everybody on this machine can read ${file}, which holds ${names}. Run: chmod o-r ${file}`],
    },
    found: true,
  };
}

function othersMayRead(path: string): boolean {
  return (statSync(path).mode & 0o004) !== 0;
}

interface Resolution {
  readonly effective: EffectiveSetting;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
}

/** The first layer that says anything decides. */
function resolveSetting(setting: Setting, layers: readonly Layer[], cwd: string): Resolution {
  const unset: EffectiveSetting = { setting, value: undefined, origin: { kind: 'default' }, secretFile: undefined };
  for (const { values } of layers) {
    const plain = values.get(setting.key);
    const named = setting.secret ? values.get(`${setting.key}${fileSuffix}`) : undefined;
    if (plain && named) {
      const message = `${setting.key} and ${setting.key}${fileSuffix} are both given; keep one`;
      return { effective: unset, problems: [problemAt(setting, named.origin, message)], warnings: [] };
    }
    if (named) return secretFromFile(setting, named, cwd);
    if (plain) return { ...accept(setting, plain, cwd), warnings: [] };
  }
  return { ...accept(setting, { value: undefined, origin: { kind: 'default' } }, cwd), warnings: [] };
}

function accept(setting: Setting, raw: RawValue, cwd: string, secretFile?: string): Omit<Resolution, 'warnings'> {
  const { value, origin } = raw;
  const parsed = setting.schema.safeParse(value);
  const effective = { setting, origin, secretFile };
  if (!parsed.success) {
    const message =
      value === undefined
        ? `${setting.key} is required: ${setting.expected}`
        : `${setting.key} takes ${setting.expected}${not(setting, value)}`;
    return { effective: { ...effective, value: undefined }, problems: [problemAt(setting, origin, message)] };
  }
  const { data } = parsed;
  if (!setting.isPath || typeof data !== 'string') return { effective: { ...effective, value: data }, problems: [] };
  const path = resolve(cwd, data);
  const failure = setting.mustBeReadable ? readFailure(path) : undefined;
  const message = `${setting.key} names ${data}, which cannot be read (${failure})`;
  return {
    effective: { ...effective, value: path },
    problems: failure === undefined ? [] : [problemAt(setting, origin, message)],
  };
}

function readFailure(path: string): string | undefined {
  try {
    accessSync(path, constants.R_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

function secretFromFile(setting: Setting, { value, origin }: RawValue, cwd: string): Resolution {
  const refuse = (message: string): Resolution => ({
    effective: { setting, value: undefined, origin, secretFile: undefined },
    problems: [problemAt(setting, origin, `${setting.key}${fileSuffix} ${message}`)],
    warnings: [],
  });
  if (typeof value !== 'string') return refuse('takes the path of a file');
  const path = resolve(cwd, value);
  let text: string;
  try {
    text = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    return refuse(`names ${value}, which cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  if (text === '') return refuse(`names ${value}, which is empty`);
  const warnings = othersMayRead(path)
    ? [`Everybody on this machine can read the secret in ${value}. Run: chmod o-r ${value}`]
    : [];
  return { ...accept(setting, { value: text, origin }, cwd, value), warnings };
}

/** Of a wrong value, what may be told. */
function not({ secret }: Setting, value: unknown): string {
  if (secret) return '';
  const text = maskUrls(JSON.stringify(value) ?? String(value));
  return `, not ${text.length > 80 ? `${text.slice(0, 79)}…` : text}`;
}

function problemAt({ key }: Setting, origin: Origin, message: string): ConfigProblem {
  return { key, where: origin.kind === 'default' ? undefined : describeOrigin(origin), message };
}

/** A required value that stands nowhere: where it belongs. */
function missingFrom(problem: ConfigProblem, file: string, fileFound: boolean): ConfigProblem {
  return problem.where === undefined
    ? { ...problem, where: fileFound ? file : `${file} (which is not there)` }
    : problem;
}

function nest(settings: readonly EffectiveSetting[]): Record<string, Record<string, unknown>> {
  const values: Record<string, Record<string, unknown>> = {};
  for (const { setting, value } of settings) {
    const [section, name] = setting.path;
    values[section] ??= {};
    if (value !== undefined) values[section][name] = value;
  }
  return values;
}
