import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import type { CliContext } from '@backend.ai/cli-kit';
import { AppError } from '@backend.ai/core';

/** Questions at a terminal. Elsewhere nobody would answer, so the option is named instead. */

export function ask(context: CliContext, question: string, option: string): Promise<string> {
  return answerOf(context, question, option, context.stderr);
}

/** What is typed is not shown. */
export function askSecret(context: CliContext, question: string, option: string): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  return answerOf(context, question, option, silent);
}

async function answerOf(context: CliContext, question: string, option: string, echo: Writable): Promise<string> {
  const { stdin, stderr } = context;
  if (!('isTTY' in stdin) || !stdin.isTTY) {
    throw new AppError('invalid-input', `${option} is missing, and there is no terminal to ask at.`, {
      hint: `Give it as an option or by the environment: ${option}.`,
    });
  }
  stderr.write(question);
  const lines = createInterface({ input: stdin, output: echo, terminal: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once('line', (line) => resolve(line.trim()));
      lines.once('SIGINT', () => reject(new AppError('cancelled', 'The login was cancelled.')));
      lines.once('close', () => reject(new AppError('cancelled', 'The login was cancelled.')));
    });
  } finally {
    lines.close();
    if (echo !== stderr) stderr.write('\n');
  }
}
