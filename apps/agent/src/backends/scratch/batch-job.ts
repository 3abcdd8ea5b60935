import { readFileSync } from 'node:fs';
import { type BatchEnd, batchRunId, type KernelBatch } from '@backend.ai/contract';
import { type Clock, hasCode } from '@backend.ai/core';
import { unlessDiskFull } from '../../files/disk-full.ts';
import { replaceFileSync } from '../../files/replace-file.ts';
import type { RunnerClient } from '../../runner/index.ts';
import type { RunEnd } from '../../runner/runner-messages.ts';
import type { Runs } from './runs.ts';

export interface BatchJobOptions {
  readonly runs: Runs;
  readonly client: RunnerClient;
  /** Where the order outlives the agent. */
  readonly file: string;
  /** That of the kernel: it stands still with its programs. */
  readonly clock: Clock;
}

/** What is kept of a job that was ordered. */
interface OrderedJob {
  /** By the clock of the kernel; null: without limit. */
  readonly deadline: number | null;
}

/** The longest that a timer of the system can wait. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * Orders the job, unless an earlier life of the agent did, and waits for its end. The runner does the work and writes
 * the exit code down, so that neither a stopped agent nor a lost connection ends a job. Null: the kernel ended first, or
 * the agent lets go of it.
 *
 * A run id that the runner knows is not run again; one that it has forgotten would be. That a job was ordered is
 * therefore kept here, from the moment the runner has taken it.
 */
export async function runBatchJob(
  { runs, client, file, clock }: BatchJobOptions,
  { startupCommand, timeoutMs }: KernelBatch,
  signal: AbortSignal,
): Promise<BatchEnd | null> {
  const before = readOrdered(file);
  const deadline = before ? before.deadline : timeoutMs === undefined ? null : clock.now() + timeoutMs;
  const late = new AbortController();
  const disarm = deadline === null ? (): void => {} : callAt(clock, deadline, () => late.abort());
  try {
    if (!before) {
      await runs.begin(batchRunId, `export _BACKEND_BATCH_MODE=1\n${startupCommand}`);
      // Without it an agent that restarts counts the job's time anew. It is no reason to fail a job that runs.
      unlessDiskFull(() => replaceFileSync(file, JSON.stringify({ deadline } satisfies OrderedJob)));
    }
    const end = await runs.endOf(batchRunId, AbortSignal.any([signal, late.signal]));
    if (end) return endOfJob(end);
    if (runs.hasEnded || signal.aborted) return null;
    // What it started in groups of its own ends with the kernel.
    await client.kill(batchRunId).catch(() => false);
    return { result: 'failure', exitCode: -2, reason: 'task-timeout' };
  } catch (error) {
    if (runs.hasEnded || signal.aborted || hasCode(error, 'shutting-down')) return null;
    if (hasCode(error, 'disk-full'))
      return { result: 'failure', exitCode: null, reason: 'task-failed', diskFull: true };
    return { result: 'failure', exitCode: null, reason: 'task-failed' };
  } finally {
    disarm();
  }
}

/** Whether the runner has taken the job that is kept in this file. */
export function jobBegan(file: string): boolean {
  return readOrdered(file) !== null;
}

export function endOfJob({ x: exitCode, full }: RunEnd): BatchEnd {
  if (exitCode === 0) return { result: 'success', exitCode, reason: 'task-finished' };
  return { result: 'failure', exitCode, reason: 'task-failed', ...(full ? { diskFull: true } : {}) };
}

function readOrdered(file: string): OrderedJob | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as OrderedJob;
  } catch {
    return null;
  }
}

/** A moment by a clock that a restarted agent knows too, however far away. */
function callAt(clock: Clock, at: number, callback: () => void): () => void {
  let cancel = (): void => {};
  const arm = (): void => {
    const leftMs = at - clock.now();
    if (leftMs <= 0) callback();
    else cancel = clock.setTimer(Math.min(leftMs, longestTimerMs), arm);
  };
  arm();
  return () => cancel();
}
