import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type CommandBundle, renderHelp } from '@backend.ai/cli-kit';
import { describe, expect, it } from 'vitest';
import { planBundles, repository } from '../scripts/bundle-plan.ts';

const bundles = await Promise.all(
  planBundles().map(async ({ entry }) => (await import(pathToFileURL(join(repository, entry)).href)) as CommandBundle),
);
const commands = bundles.flatMap((bundle) => bundle.commands);
const help = renderHelp(commands, '1.2.3');
/** Each command with all the words by which it is called; the first are its own. */
const calledBy = commands.map((command) => (command.paths ?? []).map((path) => path.join(' ')));
const names = [...new Set(calledBy.map(([name = '']) => name))];
const groups = Object.keys(help).filter((key) => key !== '' && !calledBy.flat().includes(key));

describe('the help of', () => {
  it.each(names)('%s has a purpose in one line, its usage, and an example of itself', (name) => {
    const text = help[name] ?? '';
    const [purpose = '', , usage = ''] = text.split('\n');
    expect(purpose).toMatch(/^[A-Z].{8,110}[^.]$/);
    expect(`${usage} `).toContain(`Usage: ./backend.ai ${name} `);
    const words = calledBy.find(([first]) => first === name) ?? [];
    const examples = text.split('\nExamples\n')[1]?.match(/^ {4}\S.*$/gm) ?? [];
    const own = examples.filter((line) => words.some((word) => `${line} `.includes(`./backend.ai ${word} `)));
    expect(own).not.toEqual([]);
  });

  it.each(names)('%s tells what each of its options does', (name) => {
    // An option without a description stands in the line of usage.
    expect(help[name]).not.toMatch(/^Usage: .*\[-/m);
    const section = /\nOptions\n((?: {2}.*\n)+)/.exec(help[name] ?? '')?.[1];
    for (const line of section?.trimEnd().split('\n') ?? []) expect(line).toMatch(/^ {2}-\S.*? {2,}\S/);
  });

  it.each(groups)('%s has a purpose in one line, options that its commands share, and an example of one', (group) => {
    const [purpose = '', , usage] = help[group]?.split('\n') ?? [];
    expect(purpose).toMatch(/^[A-Z].{8,110}[^.]$/);
    expect(usage).toBe(`Usage: ./backend.ai ${group} COMMAND`);
    expect(help[group]).toMatch(/\nOptions of most of them\n(?: {2}-.*\n)* {2}--json {2,}\S/);
    expect(help[group]).toMatch(/\nExample\n {2}\S.*\n {4}\.\/backend\.ai \S/);
  });

  it.each(names)('%s names the file that it reads, and none in general', (name) => {
    expect(help[name]).not.toContain('<component>');
  });

  it.each(groups)('%s, which takes one more word, lists every command that begins with it', (group) => {
    const section = /\nCommands\n((?: {2}.*\n)+)/.exec(help[group] ?? '')?.[1] ?? '';
    const listed = section.match(/^ {2}\S.*$/gm)?.map((line) => line.trim().split(/ {2,}/)[0]) ?? [];
    const inside = calledBy.map((paths) => paths.find((path) => path.startsWith(`${group} `)));
    expect(listed).toEqual([...new Set(inside)].filter((path) => path !== undefined));
  });

  it('the program lists every command that is part of this version', () => {
    const present = names.filter((name) => !help[name]?.includes('not part of this version'));
    expect(present.filter((name) => !help['']?.includes(`\n  ${name} `))).toEqual([]);
  });
});
