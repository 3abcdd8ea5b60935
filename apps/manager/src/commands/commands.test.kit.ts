import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type CommandBundle, runCommands } from '@backend.ai/cli-kit';
import { commands } from './index.ts';

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `mgr …` in this process, in a folder. */
export function runManagerCommand(cwd: string, ...args: string[]): Promise<Outcome> {
  return runOneOf(commands, cwd, ...args);
}

/** The same of other commands: one whose patience is short, … */
export async function runOneOf(some: CommandBundle['commands'], cwd: string, ...args: string[]): Promise<Outcome> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const code = await runCommands(some, ['mgr', ...args], {
    ...{ stdin: Readable.from([]), stdout, stderr, env: {}, colorDepth: 1, cwd, requestId: 'r-of-the-test' },
    onInterrupt: () => () => {},
  });
  stdout.end();
  stderr.end();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}
