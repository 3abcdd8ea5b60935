import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * Control groups, version 1 (one tree per controller) and version 2 (one tree). Which controllers can be used is found
 * out separately for each, by making a group and looking for its files: mounts, delegation and rights differ widely.
 */

export type Controller = 'memory' | 'pids' | 'cpu';
export const controllers: readonly Controller[] = ['memory', 'pids', 'cpu'];
/**
 * Controllers that limit nothing: they count (`io` in version 2 only), or make programs stand still. In version 1 they
 * may have trees of their own.
 */
export type Accountant = 'cpuacct' | 'blkio' | 'io' | 'freezer';
const accountants: readonly Accountant[] = ['cpuacct', 'blkio', 'io', 'freezer'];

export interface CgroupLimits {
  readonly cpus: number | null;
  readonly memoryBytes: number | null;
}

export interface KernelLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly processes: number;
}

/** Where groups of kernels may be made. */
export interface CgroupHost {
  readonly version: 1 | 2;
  /** Folder in which one group per kernel is made, by controller; in version 2 the same for all. */
  readonly parents: Partial<Record<Controller | Accountant, string>>;
}

/** Where this process itself is: by controller in version 1, under `unified` in version 2. */
export interface CgroupView {
  readonly v1: Partial<Record<Controller | Accountant, { readonly mount: string; readonly own: string }>>;
  readonly v2: { readonly mount: string; readonly own: string } | null;
}

/** From /proc/self/mountinfo and /proc/self/cgroup. */
export function parseCgroupView(mountinfo: string, cgroup: string): CgroupView {
  const own = new Map<string, string>();
  for (const line of cgroup.split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (names === undefined || path === undefined) continue;
    for (const name of names.split(',')) own.set(name, path);
  }
  const v1: CgroupView['v1'] = {};
  let v2: CgroupView['v2'] = null;
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-');
    if (dash < 0) continue;
    const [root = '/', mount = ''] = [fields[3], fields[4]];
    const [type, , options = ''] = fields.slice(dash + 1);
    const place = (path: string | undefined) => ({ mount, own: belowRoot(root, path ?? '/') });
    if (type === 'cgroup2') v2 = place(own.get(''));
    if (type !== 'cgroup') continue;
    for (const controller of [...controllers, ...accountants]) {
      if (options.split(',').includes(controller)) v1[controller] = place(own.get(controller));
    }
  }
  return { v1, v2 };
}

/** In a container the mount shows a part of the tree only. */
function belowRoot(root: string, path: string): string {
  if (root === '/') return path;
  if (path === root) return '/';
  return path.startsWith(`${root}/`) ? path.slice(root.length) : '/';
}

/** @param pid Whose groups; this process's own unless given */
export function readCgroupView(pid: number | 'self' = 'self'): CgroupView {
  try {
    return parseCgroupView(readFileSync('/proc/self/mountinfo', 'utf8'), readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
  } catch {
    return { v1: {}, v2: null };
  }
}

/** The folders of all groups that a process is in; the groups of everybody say nothing about it. */
export function groupFolders({ v1, v2 }: CgroupView): string[] {
  const places = [...Object.values(v1), ...(v2 ? [v2] : [])];
  return [...new Set(places.filter(({ own }) => own !== '/').map(({ mount, own }) => join(mount, own)))];
}

/** What the groups above this process allow it. */
export function readOwnLimits(view: CgroupView): CgroupLimits {
  const memory: number[] = [];
  const cpus: number[] = [];
  if (view.v2) {
    for (const folder of upwards(view.v2)) {
      const max = readNumber(join(folder, 'memory.max'));
      if (max !== null) memory.push(max);
      const [quota, period] = (readText(join(folder, 'cpu.max')) ?? '').split(' ').map(Number);
      if (quota && period) cpus.push(quota / period);
    }
  }
  for (const folder of view.v1.memory ? upwards(view.v1.memory) : []) {
    const max = readNumber(join(folder, 'memory.limit_in_bytes'));
    if (max !== null && max < 2 ** 60) memory.push(max);
  }
  for (const folder of view.v1.cpu ? upwards(view.v1.cpu) : []) {
    const quota = readNumber(join(folder, 'cpu.cfs_quota_us'));
    const period = readNumber(join(folder, 'cpu.cfs_period_us'));
    if (quota !== null && quota > 0 && period) cpus.push(quota / period);
  }
  return {
    memoryBytes: memory.length > 0 ? Math.min(...memory) : null,
    cpus: cpus.length > 0 ? Math.min(...cpus) : null,
  };
}

/** The folder of this process and those above it. */
function upwards(place: { readonly mount: string; readonly own: string }): string[] {
  const folders: string[] = [];
  for (let path = join(place.mount, place.own); path.length >= place.mount.length; path = dirname(path)) {
    folders.push(path);
    if (path === place.mount || path === '/') break;
  }
  return folders;
}

const probeFiles: Record<1 | 2, Record<Controller, string>> = {
  1: { memory: 'memory.limit_in_bytes', pids: 'pids.max', cpu: 'cpu.cfs_quota_us' },
  2: { memory: 'memory.max', pids: 'pids.max', cpu: 'cpu.max' },
};

/**
 * Finds places for the groups of kernels, as near to this process as possible: limits set above it then hold for
 * kernels too. Makes the folder `name` there. Null: nowhere.
 */
export function openCgroupHost(view: CgroupView, name: string): CgroupHost | null {
  if (view.v2) {
    for (const folder of upwards(view.v2)) {
      const parents = tryUnified(join(folder, name), folder);
      if (Object.keys(parents).length > 0) return { version: 2, parents };
    }
  }
  const parents: CgroupHost['parents'] = {};
  for (const controller of controllers) {
    const place = view.v1[controller];
    if (!place) continue;
    const found = upwards(place).find((folder) => trySeparate(join(folder, name), probeFiles[1][controller]));
    if (found) parents[controller] = join(found, name);
  }
  // Groups that limit nothing are no reason to have groups at all.
  if (Object.keys(parents).length === 0) return null;
  for (const accountant of accountants) {
    const place = view.v1[accountant];
    const found = place && upwards(place).find((folder) => makeFolder(join(folder, name)) !== 'refused');
    if (found) parents[accountant] = join(found, name);
  }
  return { version: 1, parents };
}

function tryUnified(parent: string, above: string): CgroupHost['parents'] {
  const made = makeFolder(parent);
  if (made === 'refused') return {};
  const offered = (readText(join(above, 'cgroup.controllers')) ?? '').split(' ');
  const parents: CgroupHost['parents'] = {};
  for (const controller of controllers.filter((each) => offered.includes(each))) {
    // One by one: a group with processes of its own may pass on none of them, and some kernels only a few.
    writeQuietly(join(above, 'cgroup.subtree_control'), `+${controller}`);
    writeQuietly(join(parent, 'cgroup.subtree_control'), `+${controller}`);
    if (trySeparate(join(parent, 'probe'), probeFiles[2][controller])) parents[controller] = parent;
    removeQuietly(join(parent, 'probe'));
  }
  if (Object.keys(parents).length === 0 && made === 'made') removeQuietly(parent);
  if (Object.keys(parents).length > 0 && offered.includes('io')) {
    for (const folder of [above, parent]) writeQuietly(join(folder, 'cgroup.subtree_control'), '+io');
    parents.io = parent;
  }
  return parents;
}

function trySeparate(folder: string, file: string): boolean {
  const made = makeFolder(folder);
  if (made === 'refused') return false;
  const text = readText(join(folder, file));
  if (text !== null && writeQuietly(join(folder, file), text)) return true;
  if (made === 'made') removeQuietly(folder);
  return false;
}

/** Groups of one kernel: a path per folder, in version 2 a single one. They are made anew, so left-overs are an error. */
export function cgroupPaths(host: CgroupHost, name: string): string[] {
  return [...new Set(Object.values(host.parents))].map((parent) => join(parent, name));
}

export function makeCgroups(host: CgroupHost, name: string, limits: KernelLimits): void {
  for (const path of cgroupPaths(host, name)) mkdirSync(path);
  const set = (controller: Controller, file: string, value: string, required = true): void => {
    const parent = host.parents[controller];
    if (!parent) return;
    if (required) writeFileSync(join(parent, name, file), value);
    else writeQuietly(join(parent, name, file), value);
  };
  const quota = String(Math.max(1000, Math.round(limits.cpus * 100_000)));
  const memory = String(limits.memoryBytes);
  if (host.version === 2) {
    set('memory', 'memory.max', memory);
    set('memory', 'memory.swap.max', '0', false);
    set('pids', 'pids.max', String(limits.processes));
    set('cpu', 'cpu.max', `${quota} 100000`);
  } else {
    set('memory', 'memory.limit_in_bytes', memory);
    set('memory', 'memory.memsw.limit_in_bytes', memory, false);
    set('pids', 'pids.max', String(limits.processes));
    set('cpu', 'cpu.cfs_period_us', '100000', false);
    set('cpu', 'cpu.cfs_quota_us', quota);
    set('cpu', 'cpu.shares', String(Math.max(2, Math.round(limits.cpus * 1024))), false);
  }
}

/**
 * Files to which a process writes 0 to enter its groups. In version 1 it enters as a single thread: the kernel then need
 * not wait for a grace period, which would cost a start 5 to 15 ms.
 */
export function entryFiles(host: CgroupHost, paths: readonly string[]): string[] {
  return paths.map((path) => join(path, host.version === 1 ? 'tasks' : 'cgroup.procs'));
}

/** The files that hold what is in a group still, in version 1 and 2. */
const freezers = [
  { file: 'freezer.state', still: 'FROZEN', going: 'THAWED' },
  { file: 'cgroup.freeze', still: '1', going: '0' },
] as const;

/** Whether any of the groups can make what is in it stand still. */
export function canFreeze(paths: readonly string[]): boolean {
  return freezersOf(paths).length > 0;
}

/** Asks the groups to hold what is in them still, or to let it go on. `isFrozen` tells when they do. */
export function freezeCgroups(paths: readonly string[], still: boolean): void {
  for (const { path, freezer } of freezersOf(paths)) writeFileSync(path, still ? freezer.still : freezer.going);
}

/** Whether all that is in the groups stands still. */
export function isFrozen(paths: readonly string[]): boolean {
  const found = freezersOf(paths);
  const state = (path: string): string | null =>
    path.endsWith('cgroup.freeze')
      ? (/^frozen (\d)$/m.exec(readText(join(dirname(path), 'cgroup.events')) ?? '')?.[1] ?? null)
      : readText(path);
  return found.length > 0 && found.every(({ path, freezer }) => state(path) === freezer.still);
}

function freezersOf(paths: readonly string[]) {
  return paths.flatMap((folder) =>
    freezers.flatMap((freezer) => {
      const path = join(folder, freezer.file);
      return existsSync(path) ? [{ path, freezer }] : [];
    }),
  );
}

/** Host ids of the processes in any of the groups. */
export function processesIn(paths: readonly string[]): number[] {
  const pids = new Set<number>();
  for (const path of paths) {
    for (const line of (readText(join(path, 'cgroup.procs')) ?? '').split('\n'))
      if (line !== '') pids.add(Number(line));
  }
  pids.delete(0);
  return [...pids];
}

/** Whether all of them are gone. A group with processes stays. */
export function removeCgroups(paths: readonly string[]): boolean {
  for (const path of paths) {
    if (!existsSync(path)) continue;
    // A kernel program cannot make groups; nested ones would come from an operator.
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) removeQuietly(join(path, entry.name));
    }
    removeQuietly(path);
  }
  return paths.every((path) => !existsSync(path));
}

/** Gives the places back; those with kernels in them stay. */
export function closeCgroupHost(host: CgroupHost): void {
  for (const parent of new Set(Object.values(host.parents))) removeQuietly(parent);
}

/** Names of the groups below a host. */
export function listCgroups(host: CgroupHost): string[] {
  const names = new Set<string>();
  for (const parent of new Set(Object.values(host.parents))) {
    try {
      for (const entry of readdirSync(parent, { withFileTypes: true })) if (entry.isDirectory()) names.add(entry.name);
    } catch {
      // The folder vanished with its last user.
    }
  }
  return [...names];
}

function makeFolder(path: string): 'made' | 'present' | 'refused' {
  try {
    mkdirSync(path);
    return 'made';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EEXIST' ? 'present' : 'refused';
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

function readNumber(path: string): number | null {
  const text = readText(path);
  return text !== null && /^-?\d+$/.test(text) ? Number(text) : null;
}

function writeQuietly(path: string, value: string): boolean {
  try {
    writeFileSync(path, value);
    return true;
  } catch {
    return false;
  }
}

function removeQuietly(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Whoever asks looks whether it is still there.
  }
}
