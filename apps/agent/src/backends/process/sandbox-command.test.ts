import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bubblewrapArguments, mountTable, readOnly, writable } from './mount-plan.ts';
import { encodeEnvironment, sandboxCommand } from './sandbox-command.ts';

const tools = {
  shell: '/bin/sh',
  bwrap: '/usr/bin/bwrap',
  unshare: '/usr/bin/unshare',
  setpriv: null,
  taskset: '/usr/bin/taskset',
  bwrapSizes: true,
};
const request = {
  sandbox: 'none' as const,
  uid: null,
  asRoot: false,
  cgroupEntries: [],
  groups: [],
  cpus: null,
  devices: [],
  mounts: [],
  root: '/root-folder',
  mountTable: '/table',
  hostname: 'main1',
  processLimit: 0,
  home: '/',
  shm: '/shm',
  shmBytes: 1,
  runner: [process.execPath, '-e', 'process.stdout.write(JSON.stringify(process.env)); process.exit(7)'],
};

describe('the command of a sandbox', () => {
  it('hands every variable to the program exactly as it is, and its exit code back', () => {
    const [file = '', ...args] = sandboxCommand(tools, request);
    const value = fc.string({ unit: 'grapheme', maxLength: 30 }).map((text) => text.replaceAll('\0', ''));
    fc.assert(
      fc.property(
        fc.array(fc.oneof(value, fc.constantFrom('\n', '\\', "'", '"$(id)`', '\\n\n', '%s\\c')), { maxLength: 6 }),
        (values) => {
          const environment = Object.fromEntries(values.map((text, index) => [`V${index}`, text]));
          const result = spawnSync(file, args, {
            input: encodeEnvironment(environment),
            stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
          });
          expect(result.status).toBe(7);
          expect(JSON.parse(result.stdout.toString())).toMatchObject(environment);
          expect(result.output[3]?.toString()).toBe('{"exit-code": 7}\n');
        },
      ),
      { numRuns: 15 },
    );
  });

  it('keeps to processors, takes groups along and shows devices where it is told to', () => {
    const own = { cpus: '0-1,3', uid: 7, groups: [44, 110], devices: ['/dev/kfd'], sandbox: 'bubblewrap' as const };
    const command = sandboxCommand({ ...tools, setpriv: '/bin/setpriv' }, { ...request, ...own }).join(' ');
    expect(command).toMatch(/^\/usr\/bin\/taskset -c 0-1,3 \/usr\/bin\/bwrap /);
    expect(command).toContain('--dev /dev --dev-bind /dev/kfd /dev/kfd ');
    expect(command).toContain('--regid 7 --groups 44,110 ');
  });

  it('leaves out names that no shell could set', () => {
    expect(encodeEnvironment({ A: '1', 'a b': '2', '1x': '3', UID: '4', 'x;y': '5', _ok: 'l\ni' })).toBe(
      'A=1\n_ok=l\\ni\n',
    );
  });

  it('makes the folders above mounts itself, and none below a mount', () => {
    const mounts = [
      readOnly('/usr', '/usr'),
      readOnly('/e', '/etc'),
      readOnly('/c', '/etc/ssl/certs'),
      writable('/h', '/home/work'),
    ];
    expect(bubblewrapArguments(mounts).slice(0, 4)).toEqual(['--dir', '/home', '--ro-bind', '/usr']);
  });

  it('writes mounts so that spaces and restrictions of the machine survive', () => {
    const host = [
      { target: '/', options: ['rw', 'relatime'] },
      { target: '/data', options: ['rw', 'noexec', 'noatime'] },
    ];
    const table = mountTable('/r', [writable('/data/my home', '/home/work')], ['/dev/zero'], host, 42);
    expect(table).toContain('/dev/zero /r/dev/zero none bind 0 0');
    expect(table).toContain('/data/my\\040home /r/home/work none rbind,nosuid,nodev,noexec,noatime 0 0');
    expect(table).toContain('shm /r/dev/shm tmpfs mode=1777,size=42,nosuid,nodev 0 0');
  });
});
