import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';

const gpu = (digit: number) => `c59395cd-ac91-4cd3-a1b0-3d2568aa2d0${digit}`;

let cluster: TestCluster;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'accelerators-'));
  const device = (digit: number): string =>
    `{ mother_uuid = "${gpu(digit)}", model_name = "Pretend GPU", numa_node = 0, subproc_count = 8, memory_size = "2g" }`;
  const file = join(folder, 'mock.toml');
  writeFileSync(
    file,
    `slot_name = "cuda"\ndevice_plugin_name = "CUDADevice"\ndevices = [${device(1)}, ${device(2)}]\n`,
  );
  const settings = [`mock.devices-file=${file}`, 'mock.allocation-mode=fractional'];
  cluster = await TestCluster.start([
    ...['--accelerator', 'mock'],
    ...settings.flatMap((setting) => ['--accelerator-setting', setting]),
  ]);
});
afterAll(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('sessions share simulated GPUs, and never more of one than there is', async () => {
  const small = ['-r', 'cpu=1', '-r', 'mem=128m'];
  for (const name of ['first', 'second']) {
    await cluster.json(['session', 'create', '--name', name, ...small, '-r', 'cuda.shares=0.6', 'shell']);
  }
  const seen = await Promise.all(
    ['first', 'second'].map(async (name) => {
      const told = await cluster.cli(['session', 'exec', name, '--', 'sh', '-c', 'echo $CUDA_VISIBLE_DEVICES']);
      return told.stdout.trim();
    }),
  );
  expect(seen.sort()).toEqual([gpu(1), gpu(2)]);
  const { devices, slots } = await cluster.json<{ devices: object[]; slots: object[] }>(['ag', 'list-slots']);
  const each = { model: 'Pretend GPU', slot: 'cuda.shares', used: '0.6', capacity: '1' };
  expect(devices).toMatchObject([each, each]);
  expect(slots).toContainEqual({
    slot: 'cuda.shares',
    type: 'count',
    title: 'cuda shares',
    used: '1.2',
    capacity: '2',
  });
  expect((await cluster.cli(['ag', 'status'])).stdout).toMatch(/Plugin mock +2 devices/);
  const unknown = await cluster.cli(['session', 'create', ...small, '-r', 'rocm.device=1', 'shell']);
  expect(unknown.stderr).toContain('No agent offers the resource "rocm.device"');
});

test('a session gets what is left of several GPUs only where its resource group lets shares be scattered', async () => {
  const scatter = (allowed: boolean) =>
    cluster.cli([
      ...['admin', 'resource-group', 'update', 'default', '--options'],
      JSON.stringify({ allowFractionalResourceFragmentation: allowed }),
    ]);
  const scattered = async () => {
    const { session } = await cluster.json<{ session: { status: string; reason: { code: string } | null } }>([
      ...['session', 'info', 'scattered'],
    ]);
    return session;
  };
  await cluster.cli(['session', 'destroy', 'first', 'second']);
  const small = ['-r', 'cpu=1', '-r', 'mem=128m'];
  // 0.6 of each, so that 0.4 is left of each.
  await cluster.json(['session', 'create', '--name', 'both', ...small, '-r', 'cuda.shares=1.2', 'shell']);
  await scatter(false);
  const asked = [...small, '-r', 'cuda.shares=0.8'];
  await cluster.cli(['session', 'create', '--name', 'scattered', '--enqueue-only', ...asked, 'shell']);
  const refused = async () => (await scattered()).reason?.code === 'agent-refused';
  await waitFor(refused, { what: 'the refusal' });
  await scatter(true);
  await waitFor(async () => (await scattered()).status === 'RUNNING', { what: 'its start' });
  const told = await cluster.cli(['session', 'exec', 'scattered', '--', 'sh', '-c', 'echo $CUDA_VISIBLE_DEVICES']);
  expect(told.stdout.trim().split(',').sort()).toEqual([gpu(1), gpu(2)]);
});
