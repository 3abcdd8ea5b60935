import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isUuid } from '@backend.ai/core';
import { removeTree } from '../../files/remove-tree.ts';
import { readFacts } from './facts.ts';

/**
 * The folder of one kernel: `<data>/scratch/<kernel id>/`. Only home, run, tmp, shm and config belong to the kernel's
 * user.
 */
export interface ScratchPaths {
  readonly folder: string;
  /** /home/work inside. */
  readonly home: string;
  /** /run/kernel inside: the runner's socket and journals, sockets of services. */
  readonly run: string;
  readonly tmp: string;
  readonly shm: string;
  /** /home/config inside, read-only: the key pair of a cluster. */
  readonly config: string;
  /** /etc/hosts inside, for a kernel of several. */
  readonly hosts: string;
  readonly passwd: string;
  readonly group: string;
  /** Mounts of a sandbox made by `unshare`. */
  readonly mounts: string;
  /** Read once by the sandbox as its standard input, then gone. */
  readonly environ: string;
  /** What sandbox and runner themselves print. */
  readonly log: string;
  /** Lines of JSON by the sandbox: `child-pid`, `exit-code`. */
  readonly status: string;
  /** When runs in progress have to end. */
  readonly deadlines: string;
  /** How long the kernel stood still. */
  readonly clock: string;
  /** That the batch job was ordered, and when it has to end. */
  readonly batch: string;
  readonly facts: string;
}

export function scratchPaths(scratchDir: string, kernelId: string): ScratchPaths {
  const folder = join(scratchDir, kernelId);
  const at = (name: string): string => join(folder, name);
  return {
    folder,
    home: at('home'),
    run: at('run'),
    tmp: at('tmp'),
    shm: at('shm'),
    config: at('config'),
    hosts: at('hosts'),
    passwd: at('passwd'),
    group: at('group'),
    mounts: at('mounts'),
    environ: at('environ'),
    log: at('sandbox.log'),
    status: at('status.json'),
    deadlines: at('deadlines.json'),
    clock: at('clock.json'),
    batch: at('batch.json'),
    facts: at('kernel.json'),
  };
}

/** @param open Whether the kernel's user must pass through the folder: without a sandbox it comes by the real path. */
export function makeScratch(paths: ScratchPaths, open: boolean): void {
  mkdirSync(paths.folder, { mode: 0o700 });
  if (open) chmodSync(paths.folder, 0o711);
  for (const folder of ownFolders(paths)) mkdirSync(folder, { mode: 0o700 });
}

export function giveScratch(paths: ScratchPaths, uid: number): void {
  for (const folder of ownFolders(paths)) chownSync(folder, uid, uid);
}

function ownFolders(paths: ScratchPaths): string[] {
  return [paths.home, paths.run, paths.tmp, paths.shm, paths.config];
}

/** Who `work` is: the sandbox's own user table. */
export function writeUserTables(paths: ScratchPaths, uid: number, gid: number): void {
  const others = uid === 0 ? '' : 'root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n';
  writeFileSync(paths.passwd, `work:x:${uid}:${gid}:work:/home/work:/bin/sh\n${others}`, { mode: 0o644 });
  writeFileSync(paths.group, `work:x:${gid}:\n${gid === 0 ? '' : 'root:x:0:\n'}`, { mode: 0o644 });
  chmodSync(paths.passwd, 0o644);
  chmodSync(paths.group, 0o644);
}

/** What belongs to the kernel's user: afterwards its id may be given to somebody else. */
export async function removeOwnFolders(paths: ScratchPaths): Promise<void> {
  for (const folder of ownFolders(paths)) await removeTree(folder);
}

/** The rest. The facts go last: whoever finds them knows what is still to be done. */
export async function removeScratch(paths: ScratchPaths): Promise<void> {
  await removeOwnFolders(paths);
  for (const name of existsSync(paths.folder) ? readdirSync(paths.folder) : []) {
    const path = join(paths.folder, name);
    if (path !== paths.facts) await removeTree(path);
  }
  // In one turn with what is told of the end next: an agent that is killed in between has forgotten the kernel.
  try {
    rmSync(paths.facts, { force: true });
    rmdirSync(paths.folder);
  } catch {
    await removeTree(paths.folder);
  }
}

/** User ids that processes or files of kernels may still have. */
export function uidsInScratch(scratchDir: string): number[] {
  const uids = listScratch(scratchDir).flatMap((kernelId) => {
    const paths = scratchPaths(scratchDir, kernelId);
    return [readFacts(paths)?.uid, ownerOfScratch(paths)];
  });
  return [...new Set(uids.filter((uid) => uid != null))];
}

/** Null: nobody in particular. */
export function ownerOfScratch(paths: ScratchPaths): number | null {
  const owners = ownFolders(paths).map((folder) => lstatSync(folder, { throwIfNoEntry: false })?.uid);
  return owners.find((uid) => uid !== undefined && uid !== process.getuid?.()) ?? null;
}

export function listScratch(scratchDir: string): string[] {
  return existsSync(scratchDir) ? readdirSync(scratchDir).filter((name) => isUuid(name)) : [];
}
