import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type CliContext, runCommands } from '@backend.ai/cli-kit';
import type { FakeApi } from '@backend.ai/client/testing';
import { commands } from '../index.ts';

export interface CliOptions {
  /** Its endpoint and keys stand in the environment. */
  readonly api?: FakeApi | undefined;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  readonly stdin?: string | Readable;
  /** Stops reading after the first output, as `head` does. */
  readonly closesOutput?: boolean;
  /** Called with a function that is Ctrl-C. */
  readonly onStart?: (interrupt: () => void) => void;
}

export interface CliOutcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Parsed stdout. */
  // biome-ignore lint/suspicious/noExplicitAny: documents of all commands
  readonly json: any;
}

/** Runs one command line in this process. */
export async function runCli(argv: readonly string[], options: CliOptions = {}): Promise<CliOutcome> {
  const { api, env, cwd = '/', stdin = '', onStart } = options;
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const listeners = new Set<() => void>();
  onStart?.(() => {
    for (const listener of [...listeners]) listener();
  });
  const context: CliContext = {
    stdin: typeof stdin === 'string' ? Readable.from(stdin === '' ? [] : [Buffer.from(stdin)]) : stdin,
    stdout,
    stderr,
    env: {
      ...(api
        ? {
            BACKEND_ENDPOINT: api.endpoint,
            BACKEND_ACCESS_KEY: api.credentials.accessKey,
            BACKEND_SECRET_KEY: api.credentials.secretKey,
          }
        : {}),
      ...env,
    },
    colorDepth: 1,
    cwd,
    requestId: 'r-of-the-test',
    onInterrupt(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  if (options.closesOutput) {
    stdout.once('data', () => stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })));
  }
  const texts = Promise.all([text(stdout).catch(() => ''), text(stderr)]);
  const exitCode = await runCommands(commands, argv, context);
  stdout.end();
  stderr.end();
  const [out, err] = await texts;
  return {
    exitCode,
    stdout: out,
    stderr: err,
    get json() {
      return JSON.parse(out);
    },
  };
}
