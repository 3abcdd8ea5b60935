import { readFileSync } from 'node:fs';
import { processTree } from '../../scripts/dev-servers/processes.ts';

const ticksPerSecond = 100;

/** Processor time in milliseconds of a process and those below it, all threads; of those that ended, if they were awaited. */
export async function processorMs(pid: number): Promise<number> {
  let ticks = 0;
  for (const each of await processTree(pid)) ticks += ticksOf(each);
  return (ticks * 1_000) / ticksPerSecond;
}

function ticksOf(pid: number): number {
  try {
    // Behind the name: utime, stime and those of awaited children are fields 11 to 14.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.split(' ') ?? [];
    return fields.slice(11, 15).reduce((sum, each) => sum + Number(each), 0);
  } catch {
    // It has ended meanwhile.
    return 0;
  }
}
