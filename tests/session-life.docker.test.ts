import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SessionStatisticsView, SessionView } from '@backend.ai/client';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { docker, dockerRemains, spareNetworks, testImages } from '../apps/agent/tests/docker-world.ts';
import { TestCluster } from './support/cluster.ts';
import { follow } from './support/following.ts';

/** What is done to sessions in containers while they live: on one cluster, through the command line, on an engine. */

const { debian } = await testImages();
const gpu = 'c59395cd-ac91-4cd3-a1b0-3d2568aa2d01';
const name = 'life';
const small = ['-r', 'cpu=1', '-r', 'mem=128m'];
let cluster: TestCluster;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'session-life-'));
  const file = join(folder, 'mock.toml');
  const device = `{ mother_uuid = "${gpu}", model_name = "Pretend GPU", numa_node = 0, subproc_count = 8, memory_size = "2g" }`;
  writeFileSync(file, `slot_name = "cuda"\ndevice_plugin_name = "CUDADevice"\ndevices = [${device}]\n`);
  const settings = [`mock.devices-file=${file}`, 'mock.allocation-mode=fractional'];
  cluster = await TestCluster.start([
    ...['--backend', 'docker', '--accelerator', 'mock'],
    ...settings.flatMap((setting) => ['--accelerator-setting', setting]),
  ]);
  await create(name, debian, '-r', 'cuda.shares=0.5');
});
afterAll(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

const create = (session: string, image: string, ...options: string[]) =>
  cluster.json(['session', 'create', '--name', session, ...small, ...options, image]);

async function sh(session: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await cluster.cli(['session', 'exec', session, '--', 'sh', '-c', script]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

/** What the engine has of this cluster, by the labels that the agent gave it. */
async function containers() {
  const listed = await docker.listContainers({ filters: JSON.stringify({ label: [cluster.engineLabel] }) });
  return listed.map(({ Id, Labels, State }) => ({
    ...{ id: Id, state: State, kernelId: Labels['ai.backend.kernel-id'], slot: Labels['ai.backend.warm-slot'] },
  }));
}

/** Runs in the background until it is killed. */
const program = 'while :; do :; done & echo $! > pid';

it('statistics of a session are followed live, with those of its accelerator', async () => {
  await cluster.json(['session', 'exec', name, '-c', program]);
  const watching = follow(cluster, ['session', 'stats', '--watch', '--json', '--interval', '1s', name]);
  const found = await watching.until((said) => {
    const documents = said.split('\n').slice(0, -1);
    const kernels = documents.flatMap((line) => (JSON.parse(line) as { stats: SessionStatisticsView }).stats.kernels);
    // A rate is known from the second measurement on.
    const measured = kernels.filter(({ cpu, metrics }) => cpu.percent !== null && metrics.net_rx);
    expect(measured.at(-1)?.cpu.usedMs).toBeGreaterThan(measured[0]?.cpu.usedMs ?? Number.NaN);
    return measured.at(-1);
  });
  expect((await watching.interrupt()).code).toBe(0);
  expect(found.memory).toMatchObject({ capacityBytes: 128 * 1024 ** 2 });
  expect(found.cpu.percent).toBeGreaterThan(0);
  expect(found.memory.bytes).toBeGreaterThan(1024 ** 2);
  expect(found.metrics).toMatchObject({
    net_rx: { unit: 'bps' },
    cuda_util: { unit: 'percent' },
    cuda_mem: { unit: 'bytes', capacity: 1024 ** 3 },
  });
  const { measurements } = await cluster.json<{ measurements: object[] }>(['ag', 'status']);
  expect(measurements).toMatchObject([{ metrics: { cuda_util: { unit: 'percent' }, cuda_mem: { unit: 'bytes' } } }]);
});

it('a session stands still while it is paused, and goes on where it was', async () => {
  // Of processor time.
  const ticks = async () => Number(await sh(name, 'cut -d" " -f14 /proc/$(cat pid)/stat'));
  const stateNow = async () => (await containers()).map(({ state }) => state);
  await cluster.json(['session', 'pause', name]);
  expect(await stateNow()).toEqual(['paused']);
  const { session } = await cluster.json<{ session: SessionView }>(['session', 'info', name]);
  expect(session).toMatchObject({ status: 'RUNNING', pausedAt: expect.any(String) });
  const refused = await cluster.cli(['session', 'exec', name, '--', 'true']);
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain('paused');
  await cluster.json(['session', 'resume', name]);
  expect(await stateNow()).toEqual(['running']);
  const before = await ticks();
  await waitFor(async () => (await ticks()) > before, { what: 'the program goes on' });
  await sh(name, 'kill $(cat pid)');
});

it('an image made of a session has what its programs changed, and starts sessions', async () => {
  await sh(name, 'echo made > /var/tmp/tool; echo mine > mine');
  expect((await cluster.cli(['session', 'commit', name, 'tools:1'])).stdout).toContain('tools:1 is an image of yours');
  try {
    await create('next', 'tools:1');
    expect(await sh('next', 'cat /var/tmp/tool; ls')).toBe('made\n');
    await cluster.json(['session', 'destroy', 'next']);
  } finally {
    expect((await cluster.cli(['image', 'delete', 'tools:1'])).code).toBe(0);
  }
});

it('a session takes a container that was started ahead; another one starts its own, and gets the room of that', async () => {
  const ready = async () => {
    const { pools } = await cluster.json<{ pools: Array<{ ready: number }> }>(['admin', 'warm-pool', 'list']);
    return pools[0]?.ready === 1 && (await containers()).filter(({ slot }) => slot !== undefined).map(({ id }) => id);
  };
  const idOf = async (session: string) => {
    const { session: view } = await cluster.json<{ session: SessionView }>(['session', 'info', session]);
    return (await containers()).find(({ kernelId }) => kernelId === view.kernels[0]?.id)?.id;
  };
  await cluster.cli(['admin', 'warm-pool', 'add', 'ahead', debian, '-r', 'cpu=1,mem=128m', '-n', '1']);
  const [slot] = await waitFor(ready, { what: 'a slot' });
  await create('quick', debian);
  expect(await idOf('quick')).toBe(slot);
  expect(await sh('quick', 'echo $BACKENDAI_SESSION_NAME')).toBe('quick\n');
  await cluster.json(['session', 'destroy', 'quick']);

  const [other] = await waitFor(ready, { what: 'the next slot' });
  expect(other).not.toBe(slot);
  await create('alone', debian, '--resource-opts', 'shmem=16m');
  expect(await idOf('alone')).not.toBe(other);
  expect((await containers()).map(({ id }) => id)).not.toContain(other);
  await cluster.json(['session', 'destroy', 'alone']);
  await cluster.cli(['admin', 'warm-pool', 'delete', 'ahead']);
  await waitFor(async () => (await containers()).length === 1, { what: 'no slots' });
});

it('what a session writes is followed until it has ended, and nothing of it is left in the engine', async () => {
  const following = follow(cluster, ['session', 'logs', '-f', name]);
  await sh(name, 'echo first of two');
  await following.until((said) => said.includes('first of two\n'));
  await sh(name, 'echo second of two');
  await following.until((said) => said.includes('second of two\n'));
  await cluster.json(['session', 'destroy', name]);
  expect((await following.ended).code).toBe(0);
  await waitFor(async () => (await dockerRemains(null, join(cluster.dataDir, 'agent'), spareNetworks)).length === 0);
});
