import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A file system in memory with little room, in a mount namespace of its own. */
export interface SmallDisk {
  /** As the rest of the machine sees it. */
  readonly path: string;
  /** As programs in its namespace see it. */
  readonly inside: string;
  /** Stands before a command that is to run there. */
  readonly enter: readonly string[];
  /** Takes all of its room. */
  fill(): void;
  /** Gives that back. */
  free(): void;
}

const inside = '/mnt';
const isRoot = process.getuid?.() === 0;
const unshare = ['unshare', ...(isRoot ? [] : ['--user', '--map-root-user']), '--mount'];
const mount = 'mount -t tmpfs -o size="$1" tmpfs "$2"';

/** Why there can be no small disks here; null: there can. */
export const smallDiskMissing: string | null = findMissing();

function findMissing(): string | null {
  const [program = '', ...flags] = unshare;
  const { status } = spawnSync(program, [...flags, 'sh', '-c', mount, 'sh', '64k', inside], { stdio: 'ignore' });
  return status === 0 ? null : 'neither root nor user namespaces can mount';
}

/** One that is gone when the test ends. */
export async function smallDisk(size: string): Promise<SmallDisk> {
  const { onTestFinished } = await import('vitest');
  const [program = '', ...flags] = unshare;
  // It stays as long as somebody holds its stdin: the namespace goes with its last process.
  const holder = spawn(program, [...flags, 'sh', '-c', `${mount}; echo ready; exec cat`, 'sh', size, inside], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void holder.stdin.end());
  await isReady(holder);
  const path = `/proc/${holder.pid}/root${inside}`;
  const ballast = join(path, 'ballast');
  const target = ['-t', String(holder.pid), ...(isRoot ? [] : ['--user', '--preserve-credentials']), '--mount'];
  return {
    path,
    inside,
    enter: ['nsenter', ...target, '--'],
    fill: () => fill(ballast),
    free: () => rmSync(ballast),
  };
}

/**
 * One that programs see which are there already, as a container engine is. Needs root.
 * @returns Without a namespace to enter: everybody sees it at `path`
 */
export async function smallDiskForAll(size: string): Promise<Pick<SmallDisk, 'path' | 'fill' | 'free'>> {
  const { onTestFinished } = await import('vitest');
  const path = mkdtempSync(join(tmpdir(), 'small-disk-'));
  const ballast = join(path, 'ballast');
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]);
  if (status !== 0) throw new Error(`No small disk could be mounted: ${stderr}`);
  onTestFinished(() => {
    // What a container has of it goes with that.
    spawnSync('umount', ['--lazy', path]);
    rmSync(path, { recursive: true });
  });
  return { path, fill: () => fill(ballast), free: () => rmSync(ballast) };
}

function isReady(holder: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    holder.stdout?.once('data', () => resolve());
    holder.once('exit', () => reject(new Error('No small disk could be mounted.')));
  });
}

/** Page by page: a file that is refused as a whole would leave room. */
function fill(ballast: string): void {
  const fd = openSync(ballast, 'a');
  try {
    for (let bytes = 1 << 20; bytes >= 1; bytes >>= 1) {
      while (tryWrite(fd, bytes) > 0);
    }
  } finally {
    closeSync(fd);
  }
}

function tryWrite(fd: number, bytes: number): number {
  try {
    return writeSync(fd, Buffer.alloc(bytes));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return 0;
    throw error;
  }
}
