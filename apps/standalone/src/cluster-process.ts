import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { AppError, type Clock, delay, hasCode, isErrorBody, systemClock } from '@backend.ai/core';
import { callAdminSocket, identifyProcess, isProcessAlive } from '@backend.ai/runtime';
import { type DataDirectory, makeDataDirectory } from './data-directory.ts';

/** What the admin socket of a cluster answers to `status`. */
export interface ClusterState {
  readonly pid: number;
  readonly endpoint: string;
  readonly startedAt: string;
  readonly dataDir: string;
  /** Resident memory of the cluster process in bytes. */
  readonly residentBytes: number;
}

/** The cluster of this data directory, if one answers. */
export async function findCluster(directory: DataDirectory): Promise<ClusterState | undefined> {
  try {
    return await callAdminSocket<ClusterState>(directory.adminSocket, 'status', {}, { timeoutMs: 5_000 });
  } catch (error) {
    if (hasCode(error, 'server-unreachable')) return undefined;
    throw error;
  }
}

export interface DetachOptions {
  /** This command again, without `--detach`. */
  readonly argv: readonly string[];
  readonly timeoutMs: number;
  readonly clock?: Clock;
}

/**
 * Starts a cluster in a process of its own that outlives this one, and returns when it is ready.
 * @throws AppError what the child reported, or `deadline-exceeded`
 */
export async function startDetached(directory: DataDirectory, options: DetachOptions): Promise<ClusterState> {
  const clock = options.clock ?? systemClock;
  makeDataDirectory(directory);
  const log = openSync(directory.startLogFile, 'w', 0o600);
  const child = spawn(process.execPath, options.argv, { detached: true, stdio: ['ignore', log, log], cwd: '/' });
  closeSync(log);
  const ended = whenEnded(child);
  const end = clock.monotonic() + options.timeoutMs;
  try {
    while (clock.monotonic() < end) {
      const state = await findCluster(directory);
      if (state && state.pid === child.pid) {
        child.unref();
        return state;
      }
      const outcome = await Promise.race([ended, delay(clock, 10)]);
      if (outcome !== undefined) throw startFailure(directory, outcome);
    }
    child.kill('SIGTERM');
    throw new AppError('deadline-exceeded', 'The cluster did not become ready in time.', {
      hint: `See ${directory.logFile}.`,
    });
  } finally {
    child.removeAllListeners();
    child.on('error', () => {});
  }
}

function whenEnded(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(`exit code ${code ?? signal}`));
  });
}

/** The child printed its error as JSON; anything else is shown as it is. */
function startFailure(directory: DataDirectory, outcome: string): AppError {
  const text = readFileSync(directory.startLogFile, 'utf8').trim();
  try {
    // The document comes after the text for people.
    const document = JSON.parse(text.slice(text.search(/^\{$/m))) as { error?: unknown };
    if (isErrorBody(document.error)) return AppError.fromBody(document.error);
  } catch {
    // It ended in another way, and its last line is all there is.
  }
  const last = text.split('\n').at(-1);
  return new AppError('internal', `The cluster did not start (${outcome})${last ? `: ${last}` : '.'}`, {
    hint: `See ${directory.startLogFile} and ${directory.logFile}.`,
  });
}

export interface DownResult {
  /** Null: none was running. */
  readonly pid: number | null;
  readonly sessionsKept: boolean;
}

/** Ends the cluster and waits until its process is gone. @throws AppError `deadline-exceeded` */
export async function stopCluster(
  directory: DataDirectory,
  options: { readonly keepSessions: boolean; readonly timeoutMs: number; readonly clock?: Clock },
): Promise<DownResult> {
  const clock = options.clock ?? systemClock;
  const state = await findCluster(directory);
  if (!state) return { pid: null, sessionsKept: options.keepSessions };
  const owner = identifyProcess(state.pid);
  await callAdminSocket(directory.adminSocket, 'shutdown', { keepSessions: options.keepSessions });
  const end = clock.monotonic() + options.timeoutMs;
  while (isProcessAlive(owner)) {
    if (clock.monotonic() > end) {
      throw new AppError('deadline-exceeded', `The cluster process ${state.pid} has not ended yet.`, {
        hint: `See ${directory.logFile}.`,
      });
    }
    await delay(clock, 10);
  }
  return { pid: state.pid, sessionsKept: options.keepSessions };
}
