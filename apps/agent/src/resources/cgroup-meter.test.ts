import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { CgroupMeter } from './cgroup-meter.ts';
import { groupFolders, parseCgroupView } from './cgroups.ts';

type Tree = Readonly<Record<string, string>>;

/**
 * Trees as they were written down from machines: version 1 from one with a tree for each controller, version 2 from the
 * documentation of the kernel, because no machine with it was at hand.
 */
const version1: Tree = {
  'pids/k/pids.current': '3\n',
  'cpu/k/cpu.stat': 'nr_periods 12\nnr_throttled 0\nthrottled_time 0\n',
  'cpuacct/k/cpuacct.usage': '2500000000\n',
  'memory/k/memory.usage_in_bytes': '1000000\n',
  'memory/k/memory.stat': 'cache 1\ninactive_file 5\ntotal_cache 2\ntotal_inactive_file 400000\n',
  'blkio/k/blkio.throttle.io_service_bytes':
    '254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 12288\n254:0 Async 0\n254:0 Total 12288\n' +
    '7:0 Read 100\n7:0 Write 0\n7:0 Sync 100\n7:0 Async 0\n7:0 Total 100\nTotal 12388\n',
};
const version2: Tree = {
  'k/cpu.stat': 'usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n',
  'k/memory.current': '1000000\n',
  'k/memory.stat': 'anon 500000\nfile 400000\ninactive_anon 7\ninactive_file 300000\n',
  'k/io.stat':
    '8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=0 dios=0\n253:0 rbytes=1 wbytes=2 rios=1 wios=1\n',
};

async function write(tree: Tree): Promise<string> {
  const directory = await makeTempDirectory();
  onTestFinished(() => directory.remove());
  for (const [name, text] of Object.entries(tree)) {
    const path = join(directory.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  return directory.path;
}

async function meterOf(tree: Tree): Promise<{ readonly root: string; readonly meter: CgroupMeter }> {
  const root = await write(tree);
  const meter = new CgroupMeter([...new Set(Object.keys(tree).map((name) => join(root, dirname(name))))]);
  onTestFinished(() => meter.close());
  return { root, meter };
}

it('reads the separate groups of version 1, without pages that can be read again', async () => {
  const { meter } = await meterOf(version1);
  expect(meter.read()).toEqual({ cpuMs: 2_500, memoryBytes: 600_000, readBytes: 4_196, writtenBytes: 8_192 });
});

it('reads the one group of version 2', async () => {
  const { meter } = await meterOf(version2);
  expect(meter.read()).toEqual({
    cpuMs: 1_500,
    memoryBytes: 700_000,
    readBytes: 90_430_465,
    writtenBytes: 299_008_002,
  });
});

it('tells what is there now, each time, and a group in which nothing was transferred yet as such', async () => {
  const { root, meter } = await meterOf({ ...version2, 'k/io.stat': '' });
  expect(meter.read()).toMatchObject({ readBytes: 0, writtenBytes: 0 });
  writeFileSync(join(root, 'k/cpu.stat'), 'usage_usec 2000000\n');
  writeFileSync(join(root, 'k/io.stat'), '8:0 rbytes=5 wbytes=6 rios=1 wios=1\n');
  expect(meter.read()).toMatchObject({ cpuMs: 2_000, readBytes: 5, writtenBytes: 6 });
});

it('tells what no group counts as unknown, never as zero', async () => {
  const unknown = { cpuMs: null, memoryBytes: null, readBytes: null, writtenBytes: null };
  expect((await meterOf({ 'pids/k/pids.current': '3\n', 'cpu/k/cpu.stat': 'nr_periods 0\n' })).meter.read()).toEqual(
    unknown,
  );
  expect(new CgroupMeter(['/no/such/group']).read()).toEqual(unknown);
});

it('tells what the system ended or refused in groups of version 1 and 2, also when they are gone', async () => {
  const killed = 'oom_kill_disable 0\nunder_oom 0\noom_kill 2\n';
  const old = await meterOf({ ...version1, 'memory/k/memory.oom_control': killed, 'pids/k/pids.events': 'max 5\n' });
  expect(old.meter.incidents()).toEqual({ outOfMemory: 2, processLimit: 5 });
  const { root, meter } = await meterOf({ ...version2, 'k/memory.events': 'low 0\noom 3\noom_kill 0\n' });
  expect(meter.incidents()).toEqual({ outOfMemory: 0, processLimit: 0 });
  writeFileSync(join(root, 'k/memory.events'), 'low 0\noom 4\noom_kill 1\n');
  writeFileSync(join(root, 'k/pids.events'), 'max 7\n');
  meter.close();
  rmSync(join(root, 'k'), { recursive: true });
  expect(meter.incidents()).toEqual({ outOfMemory: 1, processLimit: 7 });
  expect(new CgroupMeter(['/no/such/group']).incidents()).toEqual({ outOfMemory: 0, processLimit: 0 });
});

it('finds a file that appears later', async () => {
  const { root, meter } = await meterOf({ 'k/memory.current': '5\n', 'k/cpu.stat': 'usage_usec 1000\n' });
  rmSync(join(root, 'k/cpu.stat'));
  expect(meter.read()).toMatchObject({ cpuMs: null, memoryBytes: 5 });
  writeFileSync(join(root, 'k/cpu.stat'), 'usage_usec 3000\n');
  expect(meter.read().cpuMs).toBe(3);
});

it('finds the groups of any process, and never takes those of everybody for its own', () => {
  const mounts = [
    '30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
    '32 24 0:28 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio',
    '33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  ].join('\n');
  const own = '4:memory:/docker/abc\n3:blkio:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n';
  expect(groupFolders(parseCgroupView(mounts, own)).sort()).toEqual([
    '/sys/fs/cgroup/blkio/docker/abc',
    '/sys/fs/cgroup/cpu,cpuacct/docker/abc',
    '/sys/fs/cgroup/memory/docker/abc',
  ]);
  const unified = '30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw';
  expect(groupFolders(parseCgroupView(unified, '0::/system.slice/docker-abc.scope\n'))).toEqual([
    '/sys/fs/cgroup/system.slice/docker-abc.scope',
  ]);
});
