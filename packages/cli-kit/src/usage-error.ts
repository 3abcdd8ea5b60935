import { AppError } from '@backend.ai/core';
import { UsageError } from 'clipanion';
import { binaryName } from './cli.ts';
import type { HelpTexts } from './help-texts.ts';

/** The words before `--`: what follows belongs to a program. */
function ownWords(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--');
  return end < 0 ? argv : argv.slice(0, end);
}

export function asksForHelp(argv: readonly string[]): boolean {
  return ownWords(argv).some((word) => word === '--help' || word === '-h');
}

export function asksForJson(argv: readonly string[]): boolean {
  return ownWords(argv).includes('--json');
}

/** The words before the first option; those of the command or group that they name come first. */
function leadingWords(argv: readonly string[]): readonly string[] {
  const option = argv.findIndex((word) => word.startsWith('-'));
  return option < 0 ? argv : argv.slice(0, option);
}

/** The command or group that the first words name, as a key of `texts`; `''` when they name none. */
export function helpKey(texts: HelpTexts, argv: readonly string[]): string {
  const words = leadingWords(argv);
  const lengths = [...words.keys(), words.length].reverse();
  return lengths.map((length) => words.slice(0, length).join(' ')).find((key) => texts[key] !== undefined) ?? '';
}

/** A command line that means nothing, with the help that tells more. */
export function usageError(thrown: Error, texts: HelpTexts, argv: readonly string[]): AppError {
  const key = helpKey(texts, argv);
  const usages = texts[key]?.match(/^Usage: .*$/gm) ?? [];
  const reason = reasonOf(thrown) ?? noCommand(key, usages, leadingWords(argv));
  const see = `See: ${[binaryName, key, '--help'].filter((word) => word !== '').join(' ')}`;
  if (reason !== undefined)
    return new AppError('invalid-input', reason, { hint: [...valueLikeOption(reason, argv), see].join('\n') });
  return new AppError('invalid-input', `"${argv.join(' ')}" lacks something, or has a word too many.`, {
    hint: [...usages, see].join('\n'),
  });
}

/** Undefined where the grammar only knows that no command has this form. */
function reasonOf(thrown: Error): string | undefined {
  if (thrown instanceof UsageError) return thrown.message;
  const { candidates = [] } = thrown as { candidates?: readonly { readonly reason: string | null }[] };
  const reasons = new Set(candidates.map(({ reason }) => reason));
  const [reason] = reasons;
  return reasons.size === 1 && typeof reason === 'string' ? reason : undefined;
}

/** How a value is written that was taken for an option, such as a key that begins with `-`. */
function valueLikeOption(reason: string, argv: readonly string[]): readonly string[] {
  const option = /^Not enough arguments to option (--[\w-]+)\.$/.exec(reason)?.[1];
  const next = option === undefined ? undefined : ownWords(argv)[argv.indexOf(option) + 1];
  return next?.startsWith('-') ? [`A value that begins with "-" is written ${option}=VALUE.`] : [];
}

/** What is wrong with words that name a group, or nothing at all. */
function noCommand(key: string, usages: readonly string[], words: readonly string[]): string | undefined {
  if (!usages.some((usage) => usage.endsWith('COMMAND'))) return undefined;
  const named = key === '' ? 0 : key.split(' ').length;
  const next = words[named];
  if (next === undefined) return key === '' ? 'There is no command.' : `"${key}" takes one more word.`;
  return `There is no command "${words.slice(0, named + 1).join(' ')}".`;
}
