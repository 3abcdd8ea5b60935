import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDirectory } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { readCgroupUsage } from './cgroup-usage.ts';

async function groups(files: Record<string, Record<string, string>>): Promise<string[]> {
  const directory = await makeTempDirectory();
  onTestFinished(() => directory.remove());
  return Object.entries(files).map(([name, contents]) => {
    const path = join(directory.path, name);
    mkdirSync(path);
    for (const [file, text] of Object.entries(contents)) writeFileSync(join(path, file), text);
    return path;
  });
}

it('reads CPU time and memory of a group of version 2, without pages that can be read again', async () => {
  const paths = await groups({
    unified: {
      'cpu.stat': 'usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n',
      'memory.current': '1000000\n',
      'memory.stat': 'anon 500000\nfile 400000\ninactive_file 300000\n',
    },
  });
  expect(await readCgroupUsage(paths)).toEqual({ cpuMs: 1500, memoryBytes: 700_000 });
});

it('reads the separate groups of version 1', async () => {
  const paths = await groups({
    pids: { 'pids.current': '3\n' },
    cpu: { 'cpu.stat': 'nr_periods 0\nnr_throttled 0\n', 'cpuacct.usage': '2500000000\n' },
    memory: {
      'memory.usage_in_bytes': '1000000\n',
      'memory.stat': 'cache 1\ninactive_file 5\ntotal_inactive_file 400000\n',
    },
  });
  expect(await readCgroupUsage(paths)).toEqual({ cpuMs: 2500, memoryBytes: 600_000 });
});

it('tells what no group counts as unknown, never as zero', async () => {
  expect(await readCgroupUsage(await groups({ pids: { 'pids.current': '3\n' } }))).toEqual({
    cpuMs: null,
    memoryBytes: null,
  });
  expect(await readCgroupUsage(['/no/such/group'])).toEqual({ cpuMs: null, memoryBytes: null });
});
