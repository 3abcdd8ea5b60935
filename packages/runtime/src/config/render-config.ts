import { maskUrls, Secret } from '@backend.ai/core';
import { type ConfigOutline, fileSuffix, type Setting } from './definition.ts';
import type { EffectiveSetting, LoadedConfig } from './load-config.ts';
import { describeOrigin } from './origin.ts';

/** A value as TOML writes it, on one line. */
export function tomlValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const pairs = Object.entries(value).map(([name, each]) => `${tomlKey(name)} = ${tomlValue(each)}`);
    return pairs.length === 0 ? '{}' : `{ ${pairs.join(', ')} }`;
  }
  // A JSON text is a basic string of TOML; DEL is the one character that only TOML wants escaped.
  return (JSON.stringify(value) ?? '""').replaceAll('\u007f', '\\u007f');
}

function tomlKey(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name);
}

/** What a setting has when nobody says anything, in words. */
function defaultText(setting: Setting): string {
  if (setting.required) return 'required';
  if (setting.default === undefined) return 'unset';
  return tomlValue(setting.default);
}

function nameOf({ key }: Setting): string {
  return key.slice(key.indexOf('.') + 1);
}

function sectionsOf({ settings, sectionTexts }: ConfigOutline): Array<[name: string, text: string, Setting[]]> {
  return [...sectionTexts].map(([name, text]) => [
    name,
    text,
    settings.filter(({ key }) => key.startsWith(`${name}.`)),
  ]);
}

const sampleWidth = 110;

/**
 * A file to start from: every setting with its meaning, as a commented-out line with its default. `#key = value` is a
 * setting, `# words` are words.
 * @param values By key: written as they are, in place of the commented-out lines.
 */
export function renderSample(definition: ConfigOutline, values: Readonly<Record<string, unknown>> = {}): string {
  const { component, command, sampleFile, defaultFile } = definition;
  const lines = [
    ...comment(
      `Configuration of the ${component}. ${definition.purpose} Copy ${sampleFile} to ${defaultFile} and take the ` +
        `leading # away where another value than the default is wanted. Environment variables and --set overrule this ` +
        `file; see what is in effect with: ./backend.ai ${command} config show`,
    ),
  ];
  for (const [name, text, settings] of sectionsOf(definition)) {
    lines.push('', '', ...comment(text), `[${name}]`);
    for (const setting of settings) {
      lines.push('', ...comment(sampleText(setting)));
      const given = values[setting.key];
      const inFile = values[`${setting.key}${fileSuffix}`];
      const value = given ?? setting.default ?? setting.example ?? '';
      if (inFile !== undefined) lines.push(`${nameOf(setting)}${fileSuffix} = ${tomlValue(inFile)}`);
      else lines.push(`${given === undefined ? '#' : ''}${nameOf(setting)} = ${tomlValue(value)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function sampleText(setting: Setting): string {
  const { description, unit, expected, required, secret, isPath, example } = setting;
  const unset = setting.default === undefined;
  // Nothing that goes without saying.
  const obvious = expected === 'a text' || secret || isPath || expected.endsWith(` ${longestTimer}`);
  return [
    sentence(description),
    ...(unit ? [`In ${unit}.`] : []),
    ...(obvious ? [] : [`Takes ${expected}.`]),
    ...(secret ? [`A secret: ${nameOf(setting)}${fileSuffix} names a file to read it from instead.`] : []),
    ...(example === undefined || unset ? [] : [`For example: ${tomlValue(example)}.`]),
    ...(required ? ['REQUIRED.'] : unset && !description.includes('Unset: ') ? ['Unset by default.'] : []),
  ].join(' ');
}

const longestTimer = 2_147_483_647;

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function comment(text: string): string[] {
  const lines: string[] = [];
  let line = '#';
  for (const word of text.split(/\s+/)) {
    if (line.length + 1 + word.length > sampleWidth) {
      lines.push(line);
      line = '#';
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}

/** `docs/config/<component>.md`: the reference, made from the same texts. */
export function renderReference(definition: ConfigOutline): string {
  const { component, command, purpose, sampleFile, defaultFile } = definition;
  const parts = [
    `# Configuration of the ${component}`,
    `${purpose} Read from \`${defaultFile}\` (or \`--config FILE\`; [sample](../../${sampleFile})), then from the ` +
      'environment, then from `--set section.key=value`. Relative paths count from the folder that the program is started in.',
    `\`./backend.ai ${command} config show\` tells what is in effect and where each value came from, ` +
      `\`./backend.ai ${command} config check\` what is wrong.`,
    `In the environment, lists are written with commas and tables as \`name=value,name=value\`. A secret is never ` +
      `taken from a flag; \`<key>${fileSuffix}\` names a file that holds it.`,
  ];
  for (const [name, text, settings] of sectionsOf(definition)) {
    const rows = settings.map((setting) => {
      const { description, unit, secret, variable } = setting;
      const meaning = [description, ...(unit ? [`(${unit})`] : []), ...(secret ? ['(secret)'] : [])].join(' ');
      const cells = [
        `\`${nameOf(setting)}\``,
        meaning,
        setting.expected,
        codeUnlessWord(defaultText(setting)),
        `\`${variable}\``,
      ];
      return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
    });
    parts.push(
      `## [${name}]`,
      text,
      ['| key | meaning | takes | default | environment |', '| --- | --- | --- | --- | --- |', ...rows].join('\n'),
    );
  }
  return `${parts.join('\n\n')}\n`;
}

function codeUnlessWord(text: string): string {
  return text === 'required' || text === 'unset' ? text : `\`${text}\``;
}

/** One setting of `config show`. */
export interface ShownSetting {
  readonly key: string;
  /** Masked; null for what is not set. */
  readonly value: unknown;
  readonly origin: string;
  readonly secret: boolean;
}

/**
 * The settings in effect, secrets masked: safe to print and to send.
 * @param derived By key, what the component takes where nothing is set
 */
export function renderEffective(
  config: Pick<LoadedConfig, 'settings'>,
  derived: Readonly<Record<string, unknown>> = {},
): ShownSetting[] {
  return config.settings.map((effective) => {
    const { key, secret } = effective.setting;
    const isDerived = effective.value === undefined && derived[key] !== undefined;
    return {
      ...{ key, secret },
      value: shown(isDerived ? derived[key] : effective.value),
      origin: isDerived ? 'derived' : originText(effective),
    };
  });
}

function originText({ origin, secretFile }: EffectiveSetting): string {
  return secretFile === undefined ? describeOrigin(origin) : `${describeOrigin(origin)} (${secretFile})`;
}

function shown(value: unknown): unknown {
  if (value === undefined) return null;
  if (value instanceof Secret) return value.toString();
  if (typeof value === 'string') return maskUrls(value);
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, shown(each)]));
  }
  return value;
}
