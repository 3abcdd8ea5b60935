import { closeSync, fstatSync, readSync } from 'node:fs';
import { RunDirectory } from './run-directory.ts';
import { parseRecord, type RunRecord } from './runner-messages.ts';

/** An end of a run is shorter. */
const endBytes = 512;

/** The last record of a run's journal, if there is one and it can be understood. */
export function lastRecordOf(runDirectory: string, runId: string): RunRecord | undefined {
  let directory: RunDirectory | undefined;
  let fd: number | undefined;
  try {
    directory = new RunDirectory(runDirectory);
    fd = directory.openJournal(runId);
    if (fd === undefined) return undefined;
    const { size } = fstatSync(fd);
    const tail = Buffer.alloc(Math.min(size, endBytes));
    readSync(fd, tail, 0, tail.length, size - tail.length);
    return parseRecord(tail.toString().trimEnd().split('\n').at(-1) ?? '');
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
    directory?.close();
  }
}

/** How a run ended, as its journal says; null when it does not say so. */
export function exitCodeOf(runDirectory: string, runId: string): number | null {
  const record = lastRecordOf(runDirectory, runId);
  return record?.t === 'finished' ? record.x : null;
}
