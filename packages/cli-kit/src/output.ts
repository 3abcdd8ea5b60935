import type { Writable } from 'node:stream';
import { AppError, type ErrorBody } from '@backend.ai/core';
import Table from 'cli-table3';

/** One line of JSON per document would be harder to read; tools do not mind. */
export function writeJson(stream: Writable, document: unknown): void {
  stream.write(`${JSON.stringify(document, null, 2)}\n`);
}

const noBorders = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '' },
  ...{ 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

/** Columns aligned by width, without lines. */
export function writeTable(stream: Writable, columns: readonly string[], rows: readonly (readonly string[])[]): void {
  const table = new Table({
    head: columns.map((column) => column.toUpperCase()),
    chars: noBorders,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  for (const row of rows) table.push(row.map(clean));
  const lines = table.toString().split('\n');
  stream.write(`${lines.map((line) => line.trimEnd()).join('\n')}\n`);
}

/** Two columns: names and values. */
export function writeFields(stream: Writable, fields: readonly (readonly [name: string, value: string])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length));
  const below = `\n${' '.repeat(width + 2)}`;
  for (const [name, value] of fields) stream.write(`${name.padEnd(width)}  ${clean(value).replaceAll('\n', below)}\n`);
}

/** Names come from other people: nothing in them may steer the terminal. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}

/** One sentence, the next step, and the id with which an operator finds the rest. */
export function writeError(stream: Writable, error: AppError | ErrorBody, requestId: string): void {
  stream.write(`Error: ${clean(error.message)} [${error.code}]\n`);
  if (error.hint) stream.write(`  ${clean(error.hint)}\n`);
  stream.write(`  request id: ${error.requestId ?? requestId}\n`);
}

/** What is wrong in a caught value; things that only a developer understands keep their stack in `BACKEND_DEBUG`. */
export function explain(thrown: unknown, env: Readonly<Record<string, string | undefined>>): AppError {
  if (thrown instanceof AppError) return thrown;
  const text = thrown instanceof Error ? (env.BACKEND_DEBUG ? thrown.stack : thrown.message) : String(thrown);
  return new AppError('internal', `Unexpected: ${text}`, {
    hint: 'Run it again with BACKEND_DEBUG=1 to see where this comes from.',
    cause: thrown,
  });
}
