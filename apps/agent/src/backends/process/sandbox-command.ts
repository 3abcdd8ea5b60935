import { bubblewrapArguments, type Mount, oldRoot } from './mount-plan.ts';

/**
 * The command that becomes a kernel. The scripts are constant: whatever varies is a positional argument or comes over
 * standard input, so nothing a user wrote is ever read as code. From outside in:
 *
 *   enter (cgroups)  →  bwrap | monitor + unshare + setup | monitor  →  setpriv (user, rights)  →  init  →  runner
 *
 * Descriptor 3 is the status file. Whoever writes there stays outside of the sandbox: bubblewrap, or `monitor`. `init`
 * closes it before anything of the user comes near.
 *
 * Variables of the user are set by `init` only: by then the kernel's user has taken over, and a variable such as
 * LD_PRELOAD can do no more than the program itself.
 */

/** $1...: files of cgroups to which 0 is written to enter them; then `--` and the command. */
const enterScript = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"';

/** The command. Stays outside and writes down the exit code, for an agent that may not be there when it comes. */
const monitorScript = `"$@"
set -- "$?"
printf '{"exit-code": %s}\\n' "$1" >&3
exit "$1"`;

/** $1 root, $2 table of mounts, $3 host name; then the command. Runs as first process of new namespaces. */
const setupScript = `set -e
read -r pid rest < /proc/self/stat
printf '{"child-pid": %s}\\n' "$pid" >&3
{ printf %s "$3" > /proc/sys/kernel/hostname || hostname "$3" || :; } 2>/dev/null
mount --all --fstab "$2"
cd "$1"
pivot_root . ${oldRoot}
cd /
umount -n -l /${oldRoot}
shift 3
exec "$@"`;

/**
 * $1: 1 to stay as the parent of the runner, as the first process of a namespace does; $2 limit of processes or 0;
 * $3 home; then the runner. Standard input: variables, one a line, with \\\\ and \\n.
 */
const initScript = `exec 3>&-
while IFS= read -r BACKENDAI_INIT_LINE; do
  case $BACKENDAI_INIT_LINE in *\\\\*)
    BACKENDAI_INIT_LINE=$(printf '%b.' "$BACKENDAI_INIT_LINE")
    BACKENDAI_INIT_LINE=\${BACKENDAI_INIT_LINE%.};;
  esac
  export "$BACKENDAI_INIT_LINE"
done
unset BACKENDAI_INIT_LINE
umask 022
if [ "$2" != 0 ]; then { ulimit -u "$2" || ulimit -p "$2"; } 2>/dev/null || exit 125; fi
cd "$3" || exit 125
if [ "$1" = 1 ]; then
  shift 3
  "$@" </dev/null &
  wait "$!"
  exit "$?"
fi
shift 3
exec "$@" </dev/null`;

export interface SandboxTools {
  readonly shell: string;
  readonly bwrap: string | null;
  readonly unshare: string | null;
  readonly setpriv: string | null;
  readonly taskset: string | null;
  /** Whether bubblewrap knows `--perms` and `--size`. */
  readonly bwrapSizes: boolean;
}

export interface SandboxRequest {
  readonly sandbox: 'bubblewrap' | 'unshare' | 'none';
  /** The agent is root: kernels get a user of their own and no user namespace is needed. */
  readonly uid: number | null;
  /** Groups that it has besides, as far as the agent may give any. */
  readonly groups: readonly number[];
  /** Processors to be kept to, as `0-3,8`; null: any. */
  readonly cpus: string | null;
  readonly asRoot: boolean;
  /** See `entryFiles`. */
  readonly cgroupEntries: readonly string[];
  readonly mounts: readonly Mount[];
  /** Device files that it sees besides those that everybody does. */
  readonly devices: readonly string[];
  readonly root: string;
  readonly mountTable: string;
  readonly hostname: string;
  /** 0: not limited this way. */
  readonly processLimit: number;
  readonly home: string;
  /** Folder for /dev/shm where no file system in memory can be mounted for the user. */
  readonly shm: string;
  readonly shmBytes: number;
  readonly runner: readonly string[];
}

/** The label stands in the environment of the processes outside; inside, the kernel's own variables do. */
export function sandboxCommand(tools: SandboxTools, request: SandboxRequest): string[] {
  const { sandbox } = request;
  // Bubblewrap has a first process of its own.
  const keep = sandbox === 'unshare' ? '1' : '0';
  const init = [tools.shell, '-c', initScript, 'kernel-init', keep, String(request.processLimit), request.home];
  const inside = [...dropRights(tools, request), ...init, ...request.runner];
  // What is outside of the sandbox keeps to the same processors: whoever is started there inherits it.
  const pinned = tools.taskset && request.cpus ? [tools.taskset, '-c', request.cpus] : [];
  const outside = [...pinned, ...monitor(tools, request), ...namespaces(tools, request), ...inside];
  if (request.cgroupEntries.length === 0) return outside;
  return [tools.shell, '-c', enterScript, 'kernel-enter', ...request.cgroupEntries, '--', ...outside];
}

/** Bubblewrap monitors itself. */
function monitor(tools: SandboxTools, { sandbox }: SandboxRequest): string[] {
  return sandbox === 'bubblewrap' ? [] : [tools.shell, '-c', monitorScript, 'kernel-monitor'];
}

function dropRights(tools: SandboxTools, { sandbox, uid, groups }: SandboxRequest): string[] {
  if (!tools.setpriv) return [];
  const others = groups.length > 0 ? ['--groups', groups.join(',')] : ['--clear-groups'];
  const user = uid === null ? [] : ['--reuid', String(uid), '--regid', String(uid), ...others];
  // An ordinary user has no capabilities to drop, except in a user namespace of its own; bubblewrap does that itself.
  const drop = uid !== null || sandbox === 'unshare' ? ['--bounding-set=-all', '--inh-caps=-all'] : [];
  if (sandbox === 'bubblewrap' && uid === null) return [];
  return [tools.setpriv, ...user, ...drop, '--no-new-privs', '--'];
}

function namespaces(tools: SandboxTools, request: SandboxRequest): string[] {
  if (request.sandbox === 'none') return [];
  if (request.sandbox === 'bubblewrap') {
    return [
      tools.bwrap ?? 'bwrap',
      ...(request.asRoot ? capabilitiesForSetpriv : ['--unshare-user']),
      '--unshare-pid',
      '--unshare-ipc',
      '--unshare-uts',
      '--hostname',
      request.hostname,
      '--json-status-fd',
      '3',
      ...bubblewrapArguments(request.mounts),
      '--proc',
      '/proc',
      '--dev',
      '/dev',
      ...request.devices.flatMap((file) => ['--dev-bind', file, file]),
      ...(tools.bwrapSizes
        ? ['--perms', '1777', '--size', String(request.shmBytes), '--tmpfs', '/dev/shm']
        : ['--bind', request.shm, '/dev/shm']),
      '--remount-ro',
      '/',
      '--',
    ];
  }
  return [
    tools.unshare ?? 'unshare',
    ...(request.asRoot ? [] : ['--map-root-user']),
    '--mount',
    '--pid',
    '--ipc',
    '--uts',
    '--fork',
    '--',
    tools.shell,
    '-c',
    setupScript,
    'kernel-setup',
    request.root,
    request.mountTable,
    request.hostname,
  ];
}

/** What `setpriv` inside needs to take the kernel's user and to give up all the rest. */
const capabilitiesForSetpriv = [
  ...['--cap-drop', 'ALL'],
  ...['--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID', '--cap-add', 'CAP_SETPCAP'],
];

const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Names that shells keep to themselves. */
const shellOwned = new Set(['PPID', 'UID', 'EUID', 'SHELLOPTS', 'BASHOPTS', 'BACKENDAI_INIT_LINE']);

/** What `init` reads. Names that a shell cannot set are left out. */
export function encodeEnvironment(environment: Readonly<Record<string, string>>): string {
  return Object.entries(environment)
    .filter(([name, value]) => variableName.test(name) && !shellOwned.has(name) && !value.includes('\0'))
    .map(([name, value]) => `${name}=${value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n`)
    .join('');
}
