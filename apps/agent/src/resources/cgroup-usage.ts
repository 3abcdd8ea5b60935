import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What the groups of one kernel count. Null: none of them counts it. */
export interface CgroupUsage {
  readonly cpuMs: number | null;
  readonly memoryBytes: number | null;
}

/** @param paths Groups of one kernel, of version 1 or 2, whichever there are. */
export async function readCgroupUsage(paths: readonly string[]): Promise<CgroupUsage> {
  const each = await Promise.all(
    paths.map(async (path) => ({ cpuMs: await cpuMsIn(path), memoryBytes: await memoryIn(path) })),
  );
  return {
    cpuMs: each.find(({ cpuMs }) => cpuMs !== null)?.cpuMs ?? null,
    memoryBytes: each.find(({ memoryBytes }) => memoryBytes !== null)?.memoryBytes ?? null,
  };
}

async function cpuMsIn(path: string): Promise<number | null> {
  const micros = fieldOf(await read(join(path, 'cpu.stat')), 'usage_usec');
  if (micros !== null) return micros / 1_000;
  // Version 1 counts in a controller of its own, which is usually mounted together with `cpu`.
  const nanos = await read(join(path, 'cpuacct.usage'));
  return nanos === null ? null : Number(nanos) / 1_000_000;
}

/** Pages of files that nobody needs now count as free: the kernel takes them away before it refuses memory. */
async function memoryIn(path: string): Promise<number | null> {
  const held = (await read(join(path, 'memory.current'))) ?? (await read(join(path, 'memory.usage_in_bytes')));
  if (held === null) return null;
  const details = await read(join(path, 'memory.stat'));
  const cached = fieldOf(details, 'total_inactive_file') ?? fieldOf(details, 'inactive_file') ?? 0;
  return Math.max(0, Number(held) - cached);
}

function fieldOf(text: string | null, name: string): number | null {
  const line = text?.split('\n').find((each) => each.startsWith(`${name} `));
  return line === undefined ? null : Number(line.slice(name.length + 1));
}

async function read(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch {
    return null;
  }
}
