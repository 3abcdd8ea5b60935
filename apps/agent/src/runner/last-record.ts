import { closeSync, fstatSync, readSync } from 'node:fs';
import { RunDirectory } from './run-directory.ts';
import { parseRecord, type RunEnd } from './runner-messages.ts';

/** An end of a run is shorter. */
const endBytes = 512;

/** How a run ended, if the last record of its journal says so. */
export function endOf(runDirectory: string, runId: string): RunEnd | undefined {
  let directory: RunDirectory | undefined;
  let fd: number | undefined;
  try {
    directory = new RunDirectory(runDirectory);
    fd = directory.openJournal(runId);
    if (fd === undefined) return undefined;
    const { size } = fstatSync(fd);
    const tail = Buffer.alloc(Math.min(size, endBytes));
    readSync(fd, tail, 0, tail.length, size - tail.length);
    const record = parseRecord(tail.toString().trimEnd().split('\n').at(-1) ?? '');
    return record?.t === 'finished' ? record : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
    directory?.close();
  }
}
