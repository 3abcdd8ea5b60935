import { mkdirSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { Client, Session } from '@backend.ai/client';
import { AppError, type Clock, systemClock } from '@backend.ai/core';
import { chooseExampleJob } from './example-job.ts';

export interface QuickstartOptions {
  /** Local folder for the results; made if absent. */
  readonly outputFolder: string;
  /** Whether the session that is made stays afterwards. One that existed does in any case. */
  readonly keepSession: boolean;
  /** What happens now, one line each. */
  readonly onProgress: (line: string) => void;
  /** Output of the program as it comes. */
  readonly onOutput: (text: string) => void;
  readonly clock?: Clock;
}

export interface QuickstartResult {
  readonly sessionId: string;
  readonly sessionName: string;
  readonly image: string;
  readonly exitCode: number | null;
  readonly output: string;
  readonly files: ReadonlyArray<{ name: string; path: string; bytes: number }>;
  /** Milliseconds. */
  readonly timings: Readonly<Record<string, number>>;
  /** What the agent did between its acceptance and the first answer from inside, in milliseconds each. */
  readonly startSteps: ReadonlyArray<{ step: string; ms: number }>;
}

/**
 * One real job from end to end: a session, input, a program, its results.
 * @throws AppError also when the program fails, with its output in the message's data
 */
export async function runExample(client: Client, options: QuickstartOptions): Promise<QuickstartResult> {
  const { onProgress } = options;
  const clock = options.clock ?? systemClock;
  const timings: Record<string, number> = {};
  const timed = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const begun = clock.monotonic();
    try {
      return await work();
    } finally {
      timings[name] = Math.round(((timings[name] ?? 0) + clock.monotonic() - begun) * 10) / 10;
    }
  };
  const folder = resolve(options.outputFolder);
  makeFolder(folder);

  const job = chooseExampleJob(await client.images.list());
  onProgress(`Creating a session of ${job.image.name}`);
  const session = await timed('sessionMs', () =>
    client.sessions.create({ name: 'quickstart', image: job.image.name, resources: { cpu: '1', mem: '256m' } }),
  );
  await using _ended = options.keepSession || !session.created ? undefined : session;
  await timed('sessionMs', () =>
    session.waitUntilRunning({ onChange: (view) => onProgress(`  ${view.status}: ${view.reason.message}`) }),
  );
  onProgress(`Uploading ${job.inputs.map((file) => basename(file)).join(', ')}`);
  await timed('uploadMs', async () => {
    for (const file of job.inputs) await session.upload(basename(file), { file });
  });
  onProgress(`Running: ${job.command}`);
  const outcome = await timed('runMs', async () => {
    const run = session.exec(job.command, { timeoutMs: 120_000 });
    for await (const [kind, data] of run) {
      if ((kind === 'stdout' || kind === 'stderr') && typeof data === 'string') options.onOutput(data);
    }
    return run.result;
  });
  if (outcome.exitCode !== 0) {
    throw new AppError('session-failed', `The example ended with ${outcome.exitCode ?? outcome.status}.`, {
      hint: 'What it wrote tells why.',
      data: { exitCode: outcome.exitCode, stdout: outcome.stdout, stderr: outcome.stderr },
    });
  }
  onProgress(`Downloading ${job.results.join(', ')}`);
  const files = await timed('downloadMs', () => download(session, job.results, folder));
  const view = await session.refresh();
  const { scheduledMs, runningMs, steps } = view.timings;
  return {
    sessionId: session.id,
    sessionName: session.name,
    image: job.image.name,
    exitCode: outcome.exitCode,
    output: outcome.stdout,
    files,
    timings: {
      ...timings,
      ...(scheduledMs === null ? {} : { scheduledMs }),
      ...(runningMs === null ? {} : { runningMs }),
    },
    startSteps: steps,
  };
}

async function download(
  session: Session,
  names: readonly string[],
  folder: string,
): Promise<Array<{ name: string; path: string; bytes: number }>> {
  const files: Array<{ name: string; path: string; bytes: number }> = [];
  for (const name of names) {
    const path = join(folder, name);
    await session.downloadTo(name, path);
    files.push({ name, path, bytes: statSync(path).size });
  }
  return files;
}

/** Only the last part of the path is made: `recursive` never returns where nothing can be made, as below /proc. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new AppError('invalid-input', `The results cannot be written to ${folder}.`, {
      hint: 'Name another folder with --output.',
      cause,
    });
  }
}
