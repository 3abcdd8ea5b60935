import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** What a sandbox sees, as data: bubblewrap takes it as arguments, `unshare` as a table for mount(8). */
export type Mount =
  | { readonly kind: 'bind'; readonly source: string; readonly target: string; readonly writable: boolean }
  | { readonly kind: 'link'; readonly to: string; readonly target: string };

/**
 * Of /etc: what programs need to resolve names, load libraries, know the time and trust certificates. No secrets.
 *
 * Each mount costs a start a quarter of a millisecond, so what hardly ever changes is copied into one folder when the
 * agent starts; what does change, or is large, is mounted.
 */
const copiedEtc = [
  'gai.conf',
  'host.conf',
  'ld.so.cache',
  'localtime',
  'mime.types',
  'nsswitch.conf',
  'os-release',
  'protocols',
  'services',
  'ssl/cert.pem',
  'ssl/openssl.cnf',
  'timezone',
];
const mountedEtc = ['alternatives', 'hosts', 'resolv.conf', 'ssl/certs', 'pki/tls/certs', 'pki/ca-trust'];

const topFolders = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];

/** The folder that becomes /etc, also the mount points in it. Made again at each start of the agent, in place. */
export function makeSandboxEtc(etc: string): void {
  mkdirSync(etc, { recursive: true, mode: 0o755 });
  for (const name of copiedEtc) {
    const source = join('/etc', name);
    if (!existsSync(source)) continue;
    mkdirSync(dirname(join(etc, name)), { recursive: true, mode: 0o755 });
    copyFileSync(source, join(etc, name));
  }
  for (const name of mountedEtc) {
    const source = join('/etc', name);
    if (!existsSync(source)) continue;
    if (statSync(source).isDirectory()) mkdirSync(join(etc, name), { recursive: true, mode: 0o755 });
    else placeFile(join(etc, name));
  }
  // Each kernel has its own.
  for (const name of ['passwd', 'group', 'hosts']) placeFile(join(etc, name));
}

/** The part that all kernels share: the system, read-only, and what lies outside /usr and is needed too. */
export function systemMounts(etc: string, extraFiles: readonly string[]): Mount[] {
  const mounts: Mount[] = [readOnly('/usr', '/usr')];
  for (const name of topFolders) {
    const target = `/${name}`;
    const stat = lstatSync(target, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink()) mounts.push({ kind: 'link', to: readlinkSync(target), target });
    else if (stat?.isDirectory()) mounts.push(readOnly(target, target));
  }
  mounts.push(readOnly(etc, '/etc'));
  for (const name of mountedEtc) {
    const target = join('/etc', name);
    if (existsSync(target)) mounts.push(readOnly(realpathSync(target), target));
  }
  for (const file of extraFiles) {
    if (isCovered(file)) continue;
    const isLink = lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink();
    mounts.push(isLink ? { kind: 'link', to: linkTarget(file), target: file } : readOnly(file, file));
  }
  mounts.push({ kind: 'link', to: '/tmp', target: '/var/tmp' });
  return mounts;
}

/** One step of a link, as an absolute path. */
export function linkTarget(link: string): string {
  return resolve(realpathSync(dirname(link)), readlinkSync(link));
}

/** Whether the shared part holds a folder of the machine anyway. */
export function isCovered(folder: string): boolean {
  return ['usr', ...topFolders].some((name) => folder === `/${name}` || folder.startsWith(`/${name}/`));
}

export function readOnly(source: string, target: string): Mount {
  return { kind: 'bind', source, target, writable: false };
}

export function writable(source: string, target: string): Mount {
  return { kind: 'bind', source, target, writable: true };
}

export function bubblewrapArguments(mounts: readonly Mount[]): string[] {
  // Folders above are made here: bubblewrap would make them as private as what is bound below them.
  const above = new Set(mounts.flatMap(({ target }) => ancestors(target)));
  const made = [...above].filter(
    (folder) => !mounts.some(({ target }) => folder === target || folder.startsWith(`${target}/`)),
  );
  return [
    ...made.flatMap((folder) => ['--dir', folder]),
    ...mounts.flatMap((mount) =>
      mount.kind === 'link'
        ? ['--symlink', mount.to, mount.target]
        : [mount.writable ? '--bind' : '--ro-bind', mount.source, mount.target],
    ),
  ];
}

/** Every folder above a path, the highest first, without the root. */
function ancestors(path: string): string[] {
  const names = path.split('/').slice(1, -1);
  return names.map((_, index) => `/${names.slice(0, index + 1).join('/')}`);
}

const devices = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];
/** Where the old root stands for the moment between `pivot_root` and `umount`. */
export const oldRoot = '.old-root';

/**
 * An empty root for `unshare`: mount points only. It is made once and shared by all kernels, read-only: each mounts over
 * it in a mount namespace of its own.
 */
export function makeSandboxRoot(root: string, mounts: readonly Mount[]): void {
  const folders = ['proc', 'dev/pts', 'dev/shm', 'tmp', 'home/work', 'home/config', 'run/kernel', 'etc', oldRoot];
  for (const folder of folders) mkdirSync(join(root, folder), { recursive: true, mode: 0o755 });
  const links = [
    ...mounts.flatMap((mount) => (mount.kind === 'link' ? [mount] : [])),
    { to: '/proc/self/fd', target: '/dev/fd' },
    { to: '/proc/self/fd/0', target: '/dev/stdin' },
    { to: '/proc/self/fd/1', target: '/dev/stdout' },
    { to: '/proc/self/fd/2', target: '/dev/stderr' },
    { to: 'pts/ptmx', target: '/dev/ptmx' },
  ];
  for (const name of devices) placeFile(join(root, 'dev', name));
  for (const mount of mounts) {
    // What goes into /etc finds its place in the folder that is mounted there.
    if (mount.kind !== 'bind' || mount.target.startsWith('/etc/')) continue;
    placeMountPoint(root, mount.source, mount.target);
  }
  for (const { to, target } of links) placeLink(join(root, target), to);
}

/** For what a kernel has and others have not. */
export function placeMountPoints(
  root: string,
  mounts: ReadonlyArray<{ readonly source: string; readonly target: string }>,
  deviceFiles: readonly string[],
): void {
  for (const { source, target } of mounts) placeMountPoint(root, source, target);
  for (const file of deviceFiles) placeFile(join(root, file));
}

function placeMountPoint(root: string, source: string, target: string): void {
  const path = join(root, target);
  if (statSync(source, { throwIfNoEntry: false })?.isDirectory()) mkdirSync(path, { recursive: true });
  else placeFile(path);
}

function placeFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  if (!existsSync(path)) writeFileSync(path, '', { mode: 0o644 });
}

function placeLink(path: string, to: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isSymbolicLink() && readlinkSync(path) !== to) unlinkSync(path);
  else if (stat) return;
  symlinkSync(to, path);
}

/** A table for `mount --all --fstab`, in the order given. */
export function mountTable(
  root: string,
  mounts: readonly Mount[],
  deviceFiles: readonly string[],
  hostMounts: readonly HostMount[],
  shmBytes: number,
): string {
  const lines = [fields(root, root, 'none', ['bind', 'ro', 'nosuid', 'nodev', ...inherited(root, hostMounts)])];
  for (const mount of mounts) {
    if (mount.kind !== 'bind') continue;
    const options = [
      'rbind',
      ...(mount.writable ? [] : ['ro']),
      'nosuid',
      'nodev',
      ...inherited(mount.source, hostMounts),
    ];
    lines.push(fields(mount.source, join(root, mount.target), 'none', options));
  }
  const common = devices.map((name) => `/dev/${name}`).filter((file) => existsSync(file));
  for (const file of [...common, ...deviceFiles]) lines.push(fields(file, join(root, file), 'none', ['bind']));
  lines.push(
    fields('devpts', join(root, 'dev/pts'), 'devpts', ['newinstance', 'ptmxmode=0666', 'mode=620', 'nosuid', 'noexec']),
  );
  lines.push(fields('shm', join(root, 'dev/shm'), 'tmpfs', ['mode=1777', `size=${shmBytes}`, 'nosuid', 'nodev']));
  lines.push(fields('proc', join(root, 'proc'), 'proc', ['nosuid', 'nodev', 'noexec']));
  return `${lines.join('\n')}\n`;
}

function fields(source: string, target: string, type: string, options: readonly string[]): string {
  return [escapeField(source), escapeField(target), type, options.join(','), '0', '0'].join(' ');
}

/** As fstab(5) and mountinfo write white space. */
function escapeField(text: string): string {
  return text.replace(/[\s\\#]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

export interface HostMount {
  readonly target: string;
  readonly options: readonly string[];
}

/** An ordinary user may not take restrictions off a mount: a remount has to name those that are there. */
export function readHostMounts(): HostMount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const parts = line.split(' ');
      const target = (parts[4] ?? '/').replace(/\\(\d{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      );
      return { target, options: (parts[5] ?? '').split(',') };
    });
}

function inherited(path: string, hostMounts: readonly HostMount[]): string[] {
  let holder: HostMount | undefined;
  for (const mount of hostMounts) {
    const inside = mount.target === '/' || path === mount.target || path.startsWith(`${mount.target}/`);
    // Of mounts at the same place the later one lies on top.
    if (inside && mount.target.length >= (holder?.target.length ?? 0)) holder = mount;
  }
  return (holder?.options ?? []).filter((option) => ['ro', 'noexec', 'noatime', 'nodiratime'].includes(option));
}
