import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { terminalSchema } from '@backend.ai/contract';
import { parseSubnet } from '@backend.ai/core';
import { connectDataPort, encodeTerminalFrame, TerminalFrames } from '@backend.ai/rpc';
import { tempDirectory, waitFor } from '@backend.ai/testing';
import { expect, it, onTestFinished } from 'vitest';
import { chainsOf } from '../src/backends/docker/firewall-rules.ts';
import { examineEngine } from '../src/backends/engine-report.ts';
import {
  type AgentWorld,
  agentWorld,
  kernelSpec,
  runCode,
  type StartedAgent,
  startKernel,
  textOf,
} from './agent-world.ts';
import { docker, dockerOptions, engineSocket } from './docker-world.ts';
import { enableIPv6, iptables, linkLocalOf } from './neighbours.ts';

const image = 'backend.ai/shell:latest';
const slots = { cpu: '0.5', mem: String(96 * 1024 ** 2) };

async function run({ api }: StartedAgent, kernelId: string, code: string): Promise<string> {
  return textOf(await runCode(api, kernelId, code)).trim();
}

/** Whether somebody takes calls there: an address or a name. */
const takesCalls = (to: string, port: number): string =>
  `nc -w 3 ${to} ${port} </dev/null >/dev/null 2>&1 && echo yes || echo no`;

const listen = 'while :; do echo here | nc -l -p 7000; done >/dev/null 2>&1 &';

/** Two kernels of one session, which know each other by name. */
async function session(w: AgentWorld, { api }: StartedAgent) {
  const sessionId = randomUUID();
  const cluster = { replicas: { main: 1, sub: 1 }, hosts: [{ name: 'main1' }, { name: 'sub1' }] };
  const common = { image, slots, sessionId };
  const main = await startKernel(w, api, { ...common, cluster: { ...cluster, localRank: 0 } });
  const sub = await startKernel(w, api, {
    ...common,
    ...{ clusterRole: 'sub', hostname: 'sub1', cluster: { ...cluster, localRank: 1 } },
  });
  return { main: main.kernelId, sub: sub.kernelId };
}

async function addressOf(kernelId: string): Promise<{ address: string; gateway: string; pid: number }> {
  const [found] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
  const { NetworkSettings, State } = await docker.getContainer(found?.Id ?? '').inspect();
  const [endpoint] = Object.values(NetworkSettings.Networks);
  return { address: endpoint!.IPAddress, gateway: endpoint!.Gateway, pid: State.Pid };
}

it('the engine of these tests is Podman, which can make containers of sessions', async () => {
  const report = await examineEngine(engineSocket);
  expect(report).toMatchObject({ state: 'ready', product: 'Podman', images: expect.arrayContaining([image]) });
});

it('a kernel has its limits, runs code, serves terminals and ports, is measured, paused, adopted and leaves nothing', async () => {
  const w = await agentWorld({ ...dockerOptions, measureEveryMs: 100 });
  const first = await w.startAgent();
  expect(first.agent.status().isolation).toMatchObject({ memory: 'cgroup', machine: 'closed', egress: 'enforced' });
  const { kernelId } = await startKernel(w, first.api, { image, slots });
  const limited = await run(
    first,
    kernelId,
    'id -un; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status | tr -s "\\t" " "',
  );
  expect(limited.split('\n')).toEqual(['work', 'CapEff: 0000000000000000', 'NoNewPrivs: 1']);
  const [container] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
  const { HostConfig } = await docker.getContainer(container!.Id).inspect();
  expect(HostConfig).toMatchObject({ Memory: Number(slots.mem), CpuQuota: 50_000, PidsLimit: expect.any(Number) });
  const measured = await waitFor(() => {
    const found = w.gateway.heartbeats.at(-1)?.measurements?.find((each) => each.kernelId === kernelId);
    return (found?.memoryBytes ?? 0) > 0 && found?.metrics?.net_rx ? found : undefined;
  });
  expect(measured.memoryBytes).toBeLessThan(Number(slots.mem));

  await run(first, kernelId, 'echo "from inside" | nc -l -p 8123 >/dev/null 2>&1 &');
  await waitFor(async () => (await throughPort(first, kernelId, 8123)).includes('from inside'));
  await first.api.pauseKernel.mutate({ kernelId });
  expect(await docker.getContainer(container!.Id).inspect()).toMatchObject({ State: { Paused: true } });
  await first.api.resumeKernel.mutate({ kernelId });

  await run(first, kernelId, 'x=42');
  await first.agent.close();
  const second = await w.startAgent();
  expect(second.agent.status()).toMatchObject({ kernels: [{ kernelId, state: 'running' }] });
  expect(await run(second, kernelId, 'echo $x')).toBe('42');
  await terminalShows(second, kernelId, 'echo up-$((1 + 1))\n', 'up-2');
  await second.api.destroyKernel.mutate({ kernelId, reason: 'user-requested' });
  expect(await w.gateway.waitForEvent(kernelId, 'kernel-terminated')).toMatchObject({ reason: 'user-requested' });
  await w.expectNoRemains(kernelId);
});

it('kernels of a session find each other by name, and reach neither another session nor the machine', async () => {
  const subnetPool = '10.212.0.0/20';
  const w = await agentWorld({ ...dockerOptions, docker: { ...dockerOptions.docker, subnetPool } });
  const started = await w.startAgent();
  const [one, other] = [await session(w, started), await session(w, started)];
  for (const kernelId of [one.main, one.sub, other.sub]) await run(started, kernelId, listen);
  const reaches = async (kernelId: string, to: string): Promise<void> => {
    await waitFor(async () => (await run(started, kernelId, takesCalls(to, 7000))) === 'yes', {
      what: `${to} to answer`,
    });
  };
  await reaches(one.main, 'sub1');
  await reaches(one.sub, 'main1');
  // Its own name is its address there, by which the others find it.
  await reaches(one.main, 'main1');
  await reaches(other.main, 'sub1');
  const stranger = await addressOf(other.sub);
  expect(await run(started, one.main, takesCalls(stranger.address, 7000))).toBe('no');

  const machine = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => machine.listen(0, '0.0.0.0', resolve));
  onTestFinished(() => void machine.close());
  const { port } = machine.address() as { port: number };
  const { gateway } = await addressOf(one.main);
  expect(await run(started, one.main, takesCalls(gateway, port))).toBe('no');
  // It is the firewall that keeps them from it.
  iptables('-F', chainsOf(parseSubnet(subnetPool)!).toMachine);
  expect(await run(started, one.main, takesCalls(gateway, port))).toBe('yes');
});

it('a kernel has no IPv6, over which it would reach what listens on all addresses of the machine', async () => {
  const w = await agentWorld(dockerOptions);
  const started = await w.startAgent();
  const { kernelId } = await startKernel(w, started.api, { image, slots });
  const machine = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => machine.listen(0, '::', resolve));
  onTestFinished(() => void machine.close());
  const { port } = machine.address() as { port: number };
  const { gateway, pid } = await addressOf(kernelId);
  const call = takesCalls(`${await linkLocalOf(gateway)}%eth0`, port);
  expect(await run(started, kernelId, call)).toBe('no');
  enableIPv6(pid);
  await waitFor(async () => (await run(started, kernelId, call)) === 'yes', { what: 'what IPv6 would open' });
});

it('devices that Podman would not hand out are not offered; a kernel that is given some all the same is refused', async () => {
  const folder = await tempDirectory();
  const slot = {
    ...{ name: 'cuda.device', type: 'count', division: { kind: 'discrete' }, capacity: { one: '1' } },
    ...{ title: '', description: '', unit: '', icon: '', numberFormat: { binary: false, roundLength: 0 } },
  };
  const device = {
    id: 'one',
    model: 'GPU',
    numaNode: null,
    memoryBytes: null,
    processors: null,
    location: null,
    parent: null,
  };
  const inventory = { devices: [device], slots: [slot], exclusive: [], attributes: {} };
  const request = { driver: 'nvidia', deviceIds: ['one'], capabilities: [['gpu']] };
  const plugin = (requestsOfEngine: boolean): string => {
    const file = join(folder, `plugin-${requestsOfEngine}.mjs`);
    const text = `export const createAccelerator = () => ({
      key: 'cuda', version: '1', requestsOfEngine: ${requestsOfEngine},
      inspect: async () => (${JSON.stringify(inventory)}),
      contribute: async () => ({ deviceRequests: [${JSON.stringify(request)}] }),
    });`;
    writeFileSync(file, text);
    return file;
  };
  const w = await agentWorld(dockerOptions);
  const first = await w.startAgent({ accelerators: { plugins: [plugin(true)] } });
  const { accelerators, capacity } = first.agent.status();
  expect(accelerators).toMatchObject([
    { state: 'failed', problem: expect.stringContaining('Podman hands no devices') },
  ]);
  expect(Object.keys(capacity)).toEqual(['cpu', 'mem']);
  await first.agent.close();

  // One that does not say so before.
  const { agent, api } = await w.startAgent({ accelerators: { plugins: [plugin(false)] } });
  const spec = kernelSpec({ image, slots: { ...slots, 'cuda.device': '1' } });
  await api.createKernel.mutate(spec);
  expect(await w.gateway.waitForEvent(spec.kernelId, 'kernel-start-failed')).toMatchObject({
    ...{ failedStep: 'attach-devices', error: { code: 'unsupported-feature' } },
  });
  expect(agent.status()).toMatchObject({ used: {}, heldDevices: {} });
});

/** What somebody says who listens on a port of the kernel. */
async function throughPort({ api }: StartedAgent, kernelId: string, port: number): Promise<string> {
  const ticket = await api.openTransfer.mutate({ kernelId, transfer: { kind: 'port', port } });
  const { socket } = await connectDataPort(ticket);
  let said = '';
  socket.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    socket.end();
  });
  await new Promise<void>((resolve) => socket.on('error', () => resolve()).on('close', () => resolve()));
  return said;
}

async function terminalShows({ api }: StartedAgent, kernelId: string, typed: string, wanted: string): Promise<void> {
  const transfer = { kind: 'terminal', ...terminalSchema.parse({}) } as const;
  const { socket } = await connectDataPort(await api.openTransfer.mutate({ kernelId, transfer }));
  const frames = new TerminalFrames();
  let seen = '';
  socket.on('data', (chunk: Buffer) => {
    for (const frame of frames.push(chunk) ?? []) seen += frame.kind === 'output' ? frame.data.toString() : '';
  });
  socket.on('error', () => {});
  socket.write(encodeTerminalFrame({ kind: 'input', data: Buffer.from(typed) }));
  await waitFor(() => seen.includes(wanted));
  socket.destroy();
}
