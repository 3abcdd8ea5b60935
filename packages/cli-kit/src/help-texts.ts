import { type CommandClass, formatMarkdownish } from 'clipanion';
import type { CliContext } from './context.ts';
import { binaryName, cliOf } from './run-commands.ts';

/** Help is rendered when the bundles are made, so that showing it loads nothing. */

/** From `''`, `session` or `session create` to the text. */
export type HelpTexts = Record<string, string>;

export function renderHelp(commands: readonly CommandClass<CliContext>[], version: string): HelpTexts {
  const cli = cliOf(commands, version);
  const texts: HelpTexts = {};
  for (const command of commands) {
    for (const path of command.paths ?? []) {
      const key = path.join(' ');
      const usage = cli.usage(command, { detailed: true });
      // Two classes may share a path: `run IMAGE -c CODE` and `run IMAGE FILE`.
      texts[key] = texts[key] === undefined ? usage : `${texts[key]}\n${usage}`;
    }
  }
  for (const group of groupsOf(commands)) texts[group] ??= renderGroup(group, commands);
  texts[''] = renderRoot(commands, version);
  return texts;
}

/** First words that stand before others, as `session` in `session create`. */
function groupsOf(commands: readonly CommandClass<CliContext>[]): Set<string> {
  const groups = new Set<string>();
  for (const command of commands) {
    for (const path of command.paths ?? []) {
      for (let length = 1; length < path.length; length++) groups.add(path.slice(0, length).join(' '));
    }
  }
  return groups;
}

function describe(command: CommandClass<CliContext>): string {
  const { description = '' } = command.usage ?? {};
  return formatMarkdownish(description, { format: plain, paragraphs: false }).trim();
}

const plain = { header: String, bold: String, error: String, code: String };

/** One line per command, under its first path. */
function linesOf(entries: readonly (readonly [name: string, text: string])[]): string {
  const unique = [...new Map(entries.map((entry) => [entry[0], entry])).values()];
  const width = Math.max(...unique.map(([name]) => name.length));
  return unique.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`.trimEnd()).join('\n');
}

function renderGroup(group: string, commands: readonly CommandClass<CliContext>[]): string {
  const entries = commands.flatMap((command) => {
    const path = command.paths?.find((candidate) => candidate.join(' ').startsWith(`${group} `));
    return path ? [[path.join(' '), describe(command)] as const] : [];
  });
  return `Usage: ${binaryName} ${group} COMMAND\n\n${linesOf(entries)}\n\n${more(`${group} COMMAND`)}\n`;
}

function renderRoot(commands: readonly CommandClass<CliContext>[], version: string): string {
  const categories = new Map<string, [string, string][]>();
  for (const command of commands) {
    const name = command.paths?.[0]?.join(' ');
    if (name === undefined || !command.usage) continue;
    const category = command.usage.category ?? 'Other';
    categories.set(category, [...(categories.get(category) ?? []), [name, describe(command)]]);
  }
  const parts = [...categories].map(([category, entries]) => `${category}\n${linesOf(entries)}`);
  return `Backend.AI ${version}\n\nUsage: ${binaryName} COMMAND\n\n${parts.join('\n\n')}\n\n${more('COMMAND')}\n`;
}

function more(what: string): string {
  return `More about one: ${binaryName} ${what} --help`;
}
