import { type CommandClass, type Definition, formatMarkdownish } from 'clipanion';
import { binaryName, cliOf } from './cli.ts';
import type { CliContext } from './context.ts';
import { purposeOf } from './group-purposes.ts';

/** Help is rendered when the bundles are made, so that showing it loads nothing. */

/** From `''`, `session` or `session create` to the text. */
export type HelpTexts = Record<string, string>;

type Commands = readonly CommandClass<CliContext>[];

export function renderHelp(commands: Commands, version: string): HelpTexts {
  const forms = new Map<string, Form[]>();
  for (const command of commands) {
    const [definition] = definitionsOf(command);
    if (!definition) continue;
    for (const path of command.paths ?? []) {
      const key = path.join(' ');
      forms.set(key, [...(forms.get(key) ?? []), { command, definition }]);
    }
  }
  const texts: HelpTexts = {};
  for (const [key, sharing] of forms) texts[key] = renderForms(sharing);
  for (const group of groupsOf(commands)) texts[group] ??= renderGroup(group, commands);
  texts[''] = renderRoot(commands, version);
  return texts;
}

interface Form {
  readonly command: CommandClass<CliContext>;
  readonly definition: Definition;
}

/** Classes may share a path, as `run IMAGE -c CODE` and `run IMAGE FILE` do: what all of them take stands at the end, once. */
function renderForms(forms: readonly Form[]): string {
  const [first, ...others] = forms.map(({ definition }) => optionsOf(definition));
  const common = (first ?? []).filter(([name]) => others.every((options) => options.some(([other]) => other === name)));
  if (others.length === 0) return forms.map((form) => renderCommand(form, common)).join('\n');
  const names = new Set(common.map(([name]) => name));
  const texts = forms.map((form) =>
    renderCommand(
      form,
      optionsOf(form.definition).filter(([name]) => !names.has(name)),
    ),
  );
  return [...texts, ...(common.length > 0 ? [`Options of each\n${linesOf(common)}\n`] : [])].join('\n');
}

/** First words that stand before others, as `session` in `session create`. */
function groupsOf(commands: Commands): Set<string> {
  const groups = new Set<string>();
  for (const command of commands) {
    for (const path of command.paths ?? []) {
      for (let length = 1; length < path.length; length++) groups.add(path.slice(0, length).join(' '));
    }
  }
  return groups;
}

/** Of one command; none where it has no words of its own. */
function definitionsOf(command: CommandClass<CliContext>): Definition[] {
  return cliOf([command]).definitions({ colored: false }).slice(0, 1);
}

function optionsOf({ options }: Definition): NamedText[] {
  return options.map((option) => [withValues(option.definition), option.description ?? '']);
}

const plain = { header: String, bold: String, error: String, code: String };

function prose(text: string): string {
  return formatMarkdownish(text, { format: plain, paragraphs: false }).trim();
}

function describe(command: CommandClass<CliContext>): string {
  const text = prose(command.usage ? (command.usage.description ?? '') : '');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function renderCommand({ command, definition }: Form, options: readonly NamedText[]): string {
  const usage = command.usage || {};
  const parts = [`${describe(command)}`, usageLine(definition)];
  if (usage.details) parts.push(prose(usage.details));
  if (options.length > 0) parts.push(`Options\n${linesOf(options)}`);
  if (usage.examples && usage.examples.length > 0) {
    parts.push(`Examples\n${usage.examples.map(renderExample).join('\n')}`);
  }
  return `${parts.join('\n\n')}\n`;
}

/** `Usage: ./backend.ai run [OPTIONS] -c VALUE IMAGE` */
function usageLine({ path, usage, options }: Definition): string {
  const rest = usage.slice(path.length).replaceAll(/<([^<>]+)>/g, '$1');
  const required = options.filter((option) => option.required).map((option) => withValues(option.definition));
  const optional = options.some((option) => !option.required) ? ' [OPTIONS]' : '';
  const words = required.map((text) => ` ${text.replace(/,( -\S+)+/, '')}`).join('');
  return `Usage: ${path}${optional}${words}${rest}`;
}

/** What options take, by their last names; `VALUE` where that says no more than the name does. */
const valueNames: Readonly<Record<string, string>> = {
  ...{ resources: 'NAME=VALUE', env: 'NAME=VALUE', set: 'SECTION.KEY=VALUE', 'log-level': 'LEVEL', port: 'PORT' },
  ...{ config: 'FILE', 'data-dir': 'FOLDER', endpoint: 'URL', 'access-key': 'KEY', 'secret-key': 'KEY' },
  ...{
    'owner-access-key': 'KEY',
    retention: 'AGE',
    'older-than': 'AGE',
    ttl: 'TIME',
    timeout: 'TIME',
    'max-wait': 'TIME',
  },
  ...{ session: 'NAME', group: 'NAME', 'resource-group': 'NAME', domain: 'NAME', policy: 'NAME', selection: 'NAME' },
  ...{ explain: 'ID', code: 'CODE' },
};

/** clipanion numbers the values of options: `--name #0`. */
function withValues(text: string): string {
  const names = [...text.matchAll(/--([a-z-]+)/g)].map(([, name = '']) => name);
  const value = valueNames[names.at(-1) ?? ''] ?? 'VALUE';
  return text.replaceAll(/#\d+/g, value).replaceAll(',-', ', -');
}

type NamedText = readonly [name: string, text: string];

/** One line per entry, two columns. */
function linesOf(entries: readonly NamedText[]): string {
  const unique = [...new Map(entries.map((entry) => [entry[0], entry])).values()];
  const width = Math.max(...unique.map(([name]) => name.length));
  return unique.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`.trimEnd()).join('\n');
}

function renderGroup(group: string, commands: Commands): string {
  const inside = commands.flatMap((command) => {
    const path = command.paths?.find((candidate) => candidate.join(' ').startsWith(`${group} `));
    return path ? [{ command, name: path.join(' ') }] : [];
  });
  const options = optionsOfMost(inside.map(({ command }) => command));
  const [example] = inside.flatMap(({ command }) => (command.usage ? (command.usage.examples ?? []) : []));
  const parts = [
    ...[purposeOf(group)].filter((text) => text !== undefined),
    `Usage: ${binaryName} ${group} COMMAND`,
    `Commands\n${linesOf(inside.map(({ command, name }) => [name, describe(command)]))}`,
    ...(options.length > 0 ? [`Options of most of them\n${linesOf(options)}`] : []),
    ...(example ? [`Example\n${renderExample(example)}`] : []),
    more(`${group} COMMAND`),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** Those that more than half of the commands have. */
function optionsOfMost(commands: Commands): NamedText[] {
  const counts = new Map<string, { readonly option: NamedText; count: number }>();
  for (const option of commands.flatMap((command) => definitionsOf(command).flatMap(optionsOf))) {
    const known = counts.get(option[0]) ?? { option, count: 0 };
    known.count += 1;
    counts.set(option[0], known);
  }
  return [...counts.values()].filter(({ count }) => count > commands.length / 2).map(({ option }) => option);
}

function renderExample([text, line]: readonly [string, string]): string {
  return `  ${prose(text)}\n    ${line.replace('$0', binaryName)}`;
}

/** Commands without a category stand beside another one of the same path. */
function renderRoot(commands: Commands, version: string): string {
  const categories = new Map<string, [string, string][]>();
  for (const command of commands) {
    const name = command.paths?.[0]?.join(' ');
    const category = command.usage ? command.usage.category : undefined;
    if (name === undefined || !category) continue;
    categories.set(category, [...(categories.get(category) ?? []), [name, describe(command)]]);
  }
  const width = Math.max(0, ...[...categories.values()].flat().map(([name]) => name.length));
  const parts = [...categories].map(([category, entries]) => {
    return `${category}\n${linesOf(entries.map(([name, text]) => [name.padEnd(width), text]))}`;
  });
  return `Backend.AI ${version}\n\nUsage: ${binaryName} COMMAND\n\n${parts.join('\n\n')}\n\n${more('COMMAND')}\n`;
}

function more(what: string): string {
  return `More about one: ${binaryName} ${what} --help`;
}
