import type { BaseCommand } from '@backend.ai/cli-kit';
import { AppError, hasCode } from '@backend.ai/core';

/** The option that says what a field of a request says. */
export type OptionOfField = Readonly<Record<string, string>>;

/** What is asked for; a refusal that names fields comes in the words of the command line. */
export async function inOptionWords<T>(asked: Promise<T>, optionOf: OptionOfField, { path }: BaseCommand): Promise<T> {
  try {
    return await asked;
  } catch (thrown) {
    if (!hasCode(thrown, 'invalid-input')) throw thrown;
    const { data, requestId } = thrown;
    const fields = data?.fields;
    if (typeof fields !== 'object' || fields === null) throw thrown;
    const problems = Object.entries(fields).map(([name, problem]) => {
      const [field = '', ...rest] = name.split('.');
      return `${[optionOf[field] ?? field, ...rest].join(' ')} ${problem}`;
    });
    if (problems.length === 0) throw thrown;
    const hint = `See what it takes: ./backend.ai ${path.join(' ')} --help`;
    throw new AppError('invalid-input', `${problems.join('; ')}.`, { hint, data, requestId, cause: thrown });
  }
}
