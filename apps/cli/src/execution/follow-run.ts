import { StringDecoder } from 'node:string_decoder';
import { type CliContext, writeError } from '@backend.ai/cli-kit';
import type { Run, RunOutcome, Session } from '@backend.ai/client';
import { exitCodeOf, noticesOf } from './outcome.ts';

export interface FollowOptions {
  /** Nothing is printed while it runs: the outcome is printed as a document later. */
  readonly quiet: boolean;
  /** The session goes with the run: the second Ctrl-C destroys it. */
  readonly destroyOnSecondInterrupt: boolean;
}

const brokenPipe = 13;

export interface Followed {
  /** Absent when nobody reads our output any more: the program was interrupted then. */
  readonly outcome: RunOutcome | undefined;
  readonly exitCode: number;
}

/**
 * A terminal's view of a run: its output here as it comes, our input there, Ctrl-C interrupts it. What happened to the
 * program besides its exit code is told on stderr.
 */
export async function followRun(
  context: CliContext,
  session: Session,
  run: Run,
  options: FollowOptions,
): Promise<Followed> {
  if (!options.quiet && session.view.kernels.some(({ isolation }) => isolation?.sandbox === 'simulated')) {
    context.stderr.write('Nothing is executed: this session is simulated (--backend fake), its output is an echo.\n');
  }
  const stopInput = forwardInput(context, run);
  const stopInterrupts = forwardInterrupts(context, session, run, options);
  let unread = false;
  const onUnread = (): void => {
    unread = true;
  };
  context.stdout.on('error', onUnread);
  try {
    for await (const [kind, data] of run) {
      if (unread) {
        await run.interrupt();
        return { outcome: undefined, exitCode: 128 + brokenPipe };
      }
      if (options.quiet) continue;
      if (kind === 'stdout') await write(context.stdout, String(data));
      else if (kind === 'stderr' || kind === 'log') await write(context.stderr, String(data));
      else if (kind === 'media') await write(context.stdout, `[${data[0]}: shown in a browser only]\n`);
      else await write(context.stdout, `[${kind}: shown in a browser only]\n`);
    }
    const outcome = await run.result;
    if (!options.quiet) {
      for (const notice of noticesOf(outcome, context.requestId)) writeError(context.stderr, notice, context.requestId);
    }
    return { outcome, exitCode: exitCodeOf(outcome) };
  } finally {
    context.stdout.off('error', onUnread);
    stopInterrupts();
    stopInput();
  }
}

/** Waits while the reader of our output is slower than the program. */
async function write(stream: NodeJS.WritableStream, text: string): Promise<void> {
  if (stream.write(text)) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      stream.off('error', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
    stream.on('error', done);
  });
}

/** Lines of a terminal, or a file or pipe up to its end. */
function forwardInput({ stdin }: CliContext, run: Run): () => void {
  const decoder = new StringDecoder('utf8');
  let stopped = false;
  const onData = (chunk: Buffer): void => {
    const text = decoder.write(chunk);
    if (text === '') return;
    stdin.pause();
    run.write(text).then(
      () => stopped || stdin.resume(),
      // The program has ended or the connection is lost: `result` tells.
      () => {},
    );
  };
  const onEnd = (): void => void run.end().catch(() => {});
  const onError = (): void => onEnd();
  stdin.on('data', onData);
  stdin.once('end', onEnd);
  stdin.on('error', onError);
  return () => {
    stopped = true;
    stdin.off('data', onData);
    stdin.off('end', onEnd);
    stdin.pause();
    // A pipe that nobody closes must not keep us alive.
    if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
  };
}

function forwardInterrupts(context: CliContext, session: Session, run: Run, options: FollowOptions): () => void {
  let count = 0;
  return context.onInterrupt(() => {
    count += 1;
    if (count === 1) {
      context.stderr.write('\nInterrupting the program. Press Ctrl-C again to give it up.\n');
      run.interrupt().catch(() => {});
    } else if (count === 2 && options.destroyOnSecondInterrupt) {
      context.stderr.write('\nDestroying the session.\n');
      session.destroy({ forced: true }).catch(() => {});
    } else {
      process.exit(130);
    }
  });
}
