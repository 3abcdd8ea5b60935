import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { entryFiles, makeCgroups, parseCgroupView, processesIn, readOwnLimits } from './cgroups.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});
function temp(): string {
  const folder = mkdtempSync(join(tmpdir(), 'bai-cgroup-'));
  folders.push(folder);
  return folder;
}

const limits = { memoryBytes: 256 * 1024 ** 2, cpus: 1.5, processes: 512 };

describe('control groups', () => {
  it('finds version 1, one tree per controller', () => {
    const mountinfo = [
      '30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
      '31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
      '32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    ].join('\n');
    expect(parseCgroupView(mountinfo, '4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/d\n')).toEqual({
      v1: {
        memory: { mount: '/sys/fs/cgroup/memory', own: '/a/b' },
        cpu: { mount: '/sys/fs/cgroup/cpu,cpuacct', own: '/c' },
        cpuacct: { mount: '/sys/fs/cgroup/cpu,cpuacct', own: '/c' },
      },
      v2: { mount: '/sys/fs/cgroup/unified', own: '/d' },
    });
  });

  it('finds version 2, also where a container sees a part of the tree only', () => {
    const mountinfo = '30 24 0:26 /system.slice/x.service /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw,nsdelegate';
    expect(parseCgroupView(mountinfo, '0::/system.slice/x.service/inner\n')).toEqual({
      v1: {},
      v2: { mount: '/sys/fs/cgroup', own: '/inner' },
    });
  });

  it('takes the narrowest limit above itself', () => {
    const mount = temp();
    mkdirSync(join(mount, 'a', 'b'), { recursive: true });
    writeFileSync(join(mount, 'a', 'memory.max'), '1073741824\n');
    writeFileSync(join(mount, 'a', 'b', 'memory.max'), 'max\n');
    writeFileSync(join(mount, 'a', 'cpu.max'), 'max 100000\n');
    writeFileSync(join(mount, 'a', 'b', 'cpu.max'), '150000 100000\n');
    expect(readOwnLimits({ v1: {}, v2: { mount, own: '/a/b' } })).toEqual({ memoryBytes: 1_073_741_824, cpus: 1.5 });
  });

  it('writes the limits of version 2', () => {
    const parent = temp();
    makeCgroups({ version: 2, parents: { memory: parent, pids: parent, cpu: parent } }, 'k', limits);
    const read = (name: string): string => readFileSync(join(parent, 'k', name), 'utf8');
    expect([read('memory.max'), read('memory.swap.max'), read('pids.max'), read('cpu.max')]).toEqual([
      '268435456',
      '0',
      '512',
      '150000 100000',
    ]);
  });

  it('writes the limits of version 1 where there is a controller', () => {
    const [memory, cpu] = [temp(), temp()];
    const host = { version: 1, parents: { memory, cpu } } as const;
    makeCgroups(host, 'k', limits);
    expect(readFileSync(join(memory, 'k', 'memory.limit_in_bytes'), 'utf8')).toBe('268435456');
    expect(readFileSync(join(cpu, 'k', 'cpu.cfs_quota_us'), 'utf8')).toBe('150000');
    expect(existsSync(join(cpu, 'k', 'pids.max'))).toBe(false);
    expect(entryFiles(host, [join(memory, 'k')])).toEqual([join(memory, 'k', 'tasks')]);
  });

  it('tells who is in a group', () => {
    const [one, two] = [temp(), temp()];
    writeFileSync(join(one, 'cgroup.procs'), '10\n11\n');
    writeFileSync(join(two, 'cgroup.procs'), '11\n12\n');
    expect(processesIn([one, two, join(one, 'gone')])).toEqual([10, 11, 12]);
  });
});
