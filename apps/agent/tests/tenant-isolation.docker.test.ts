import { execFile, execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parseSubnet, systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { makeTempDirectory, tempDirectory, waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DockerBackend } from '../src/backends/docker/docker-backend.ts';
import { chainsOf } from '../src/backends/docker/firewall-rules.ts';
import { agentWorld, runCode, startKernel, type WorldOptions } from './agent-world.ts';
import { docker, dockerOptions, engineSocket, testImages } from './docker-world.ts';
import { dial, dialAll, enableIPv6, iptables, linkLocalOf, neighbour } from './neighbours.ts';

const images = await testImages();
/** Not that of other agents of this machine: what is done to its rules is felt by nobody else. */
const subnetPool = '10.213.0.0/20';
const chains = chainsOf(parseSubnet(subnetPool)!);
const guarded = { ...dockerOptions, docker: { ...dockerOptions.docker, subnetPool, spareNetworks: 2 } };
/** Where rules are taken away: networks that are made meanwhile would bring them back. */
const calm = { ...guarded, docker: { ...guarded.docker, spareNetworks: 0 } };

async function world(options: WorldOptions = guarded) {
  const w = await agentWorld(options);
  onTestFinished(removeRules);
  return w;
}

function removeRules(): void {
  iptables('-D', 'INPUT', '-j', chains.toMachine);
  iptables('-D', 'FORWARD', '-j', chains.through);
  for (const chain of [chains.toMachine, chains.through]) {
    iptables('-F', chain);
    iptables('-X', chain);
  }
}

/** Of the machine, on all of its addresses. */
async function listener(host = '0.0.0.0'): Promise<number> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  onTestFinished(() => void server.close());
  return (server.address() as { port: number }).port;
}

/** A network of the machine's own that no other test or agent takes away; the machine's address on it. */
function ownNetwork(address: string): string {
  const name = `bai-${process.pid}`;
  const ip = (...args: string[]): unknown => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  ip('link', 'add', name, 'type', 'bridge');
  onTestFinished(() => void ip('link', 'del', name));
  ip('address', 'add', `${address}/32`, 'dev', name);
  ip('link', 'set', name, 'up');
  return address;
}

/** The machine's addresses on the engine's own bridge, which stays, and on the way out, where there is one. */
async function lastingAddresses(): Promise<string[]> {
  const bridge = (await docker.getNetwork('bridge').inspect()) as { IPAM: { Config: Array<{ Gateway?: string }> } };
  const routes = execFileSync('ip', ['-4', 'route', 'show', 'default'], { encoding: 'utf8' });
  const out = networkInterfaces()[/ dev (\S+)/.exec(routes)?.[1] ?? ''] ?? [];
  return [
    ...bridge.IPAM.Config.flatMap(({ Gateway }) => Gateway ?? []),
    ...out.filter(({ family }) => family === 'IPv4').map(({ address }) => address),
  ];
}

async function addressOf(kernelId: string): Promise<{ address: string; gateway: string }> {
  const [found] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
  const [endpoint] = Object.values(found?.NetworkSettings.Networks ?? {});
  return { address: endpoint!.IPAddress, gateway: endpoint!.Gateway };
}

async function pidOf(kernelId: string): Promise<number> {
  const [found] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
  return (await docker.getContainer(found!.Id).inspect()).State.Pid;
}

/** One more in its container, to which the machine knows the way: through the interface that this answers. */
async function giveAddress(kernelId: string, address: string): Promise<string> {
  const [found] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
  const [{ NetworkID: network = '' } = {}] = Object.values(found?.NetworkSettings.Networks ?? {});
  const inContainer = [
    '--target',
    String(await pidOf(kernelId)),
    '--net',
    'ip',
    'address',
    'add',
    `${address}/32`,
    'dev',
    'eth0',
  ];
  execFileSync('nsenter', inContainer, { stdio: ['ignore', 'pipe', 'pipe'] });
  const bridge = `br-${network.slice(0, 12)}`;
  execFileSync('ip', ['route', 'add', `${address}/32`, 'dev', bridge]);
  return bridge;
}

describe.runIf(process.getuid?.() === 0)('a session in containers', () => {
  const image = images.python;

  it('reaches no port of the machine, by whatever address, while the machine reaches it', async () => {
    const w = await world(calm);
    const { agent, api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image });
    const port = await listener();
    const { kernelId: other } = await startKernel(w, api, { image });
    const gateways = await Promise.all([kernelId, other].map(async (each) => (await addressOf(each)).gateway));
    const hosts = [...new Set([...gateways, ownNetwork('198.51.100.77'), ...(await lastingAddresses())])];
    const reach = async (): Promise<string[][]> => {
      const outcomes = await dialAll(
        api,
        kernelId,
        hosts.map((host) => [host, port]),
      );
      return hosts.map((host, index) => [host, outcomes[index]!]);
    };
    expect(await reach()).toEqual(hosts.map((host) => [host, 'dropped']));
    expect(agent.status().isolation).toMatchObject({ network: 'isolated', machine: 'closed' });

    const serve = 'import socket, threading\ns = socket.create_server(("", 8123))\n';
    await runCode(api, kernelId, `${serve}threading.Thread(target=s.accept, daemon=True).start()`);
    const socket = connect(8123, (await addressOf(kernelId)).address);
    onTestFinished(() => void socket.destroy());
    await once(socket, 'connect');

    iptables('-F', chains.toMachine);
    expect(await reach()).toEqual(hosts.map((host) => [host, 'open']));
  });

  it('has no IPv6, over which it would reach what listens on all addresses of the machine', async () => {
    const w = await world();
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image });
    const port = await listener('::');
    const local = `${await linkLocalOf((await addressOf(kernelId)).gateway)}%eth0`;
    expect(await dial(api, kernelId, local, port)).toBe('OSError');
    const undo = 'open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w").write("0")';
    expect(await runCode(api, kernelId, undo)).toMatchObject({ exitCode: 1 });
    enableIPv6(await pidOf(kernelId));
    await waitFor(async () => (await dial(api, kernelId, local, port)) === 'open', { what: 'what IPv6 would open' });
  });

  it('reaches no other session, but its own kernels by name', async () => {
    const w = await world();
    const { api } = await w.startAgent();
    const cluster = { replicas: { main: 1, sub: 1 }, hosts: [{ name: 'main1' }, { name: 'sub1' }] };
    const main = await startKernel(w, api, { image, cluster: { ...cluster, localRank: 0 } });
    const { sessionId } = main.spec;
    const sub = { sessionId, clusterRole: 'sub' as const, hostname: 'sub1', cluster: { ...cluster, localRank: 1 } };
    const second = await startKernel(w, api, { image, ...sub });
    const stranger = await startKernel(w, api, { image });
    for (const { kernelId } of [second, stranger])
      await runCode(api, kernelId, 'import socket\ns = socket.create_server(("", 8123))');
    expect(await dial(api, main.kernelId, 'sub1', 8123)).toBe('open');
    expect(await dial(api, main.kernelId, (await addressOf(stranger.kernelId)).address, 8123)).toBe('dropped');
  });

  it('sends from no address but those of its network', async () => {
    const w = await world(calm);
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image });
    const foreign = '198.51.100.78';
    const bridge = await giveAddress(kernelId, foreign);
    const heard: string[] = [];
    const listener = createSocket('udp4', (message, { address }) => heard.push(`${message} from ${address}`));
    onTestFinished(() => void listener.close());
    await new Promise<void>((resolve) => listener.bind(0, '0.0.0.0', resolve));
    const { gateway } = await addressOf(kernelId);
    const send = (text: string) =>
      runCode(
        api,
        kernelId,
        `import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("${foreign}", 0))
s.sendto(b"${text}", ("${gateway}", ${listener.address().port}))`,
      );
    await send('first');
    const drops = (): string[] =>
      iptables('-S', 'INPUT')
        .split('\n')
        .filter((line) => line.includes(`-i ${bridge} `));
    expect(drops()).toHaveLength(1);
    const arrives = async (): Promise<boolean> => {
      // The agent may have put it back.
      for (const drop of drops()) iptables(...drop.replace('-A', '-D').split(' '));
      await send('second');
      return heard.length > 0;
    };
    await waitFor(arrives, { what: 'what is sent without rules' });
    expect(new Set(heard)).toEqual(new Set([`second from ${foreign}`]));
  });

  it('reaches no metadata of a cloud, also after somebody has flushed the rules', async () => {
    const w = await world(calm);
    const { api } = await w.startAgent();
    const metadata = ['169.254.77.77', '100.100.100.200', '168.63.129.16', '192.0.0.192'];
    neighbour(...metadata);
    const { kernelId } = await startKernel(w, api, { image });
    iptables('-F', chains.through);
    // Nothing listens there: what arrives is refused.
    const reach = (port: number) =>
      dialAll(
        api,
        kernelId,
        metadata.map((host) => [host, port] as const),
      );
    await waitFor(async () => (await reach(80)).every((outcome) => outcome === 'dropped'));
    expect(await reach(53)).toEqual(metadata.map(() => 'refused'));
  });

  it('is refused where nothing guards the machine, unless that was accepted', async () => {
    const directory = await makeTempDirectory();
    onTestFinished(() => directory.remove());
    const backend = (allowUnguarded: boolean): DockerBackend =>
      new DockerBackend({
        ...{ dataDir: directory.path, installationId: randomUUID(), agentId: 'i-test', socketPath: engineSocket },
        ...{
          subnetPool,
          subnetPrefix: 26,
          spareNetworks: 0,
          clusterSubnetPool: '10.98.0.0/16',
          clusterSubnetPrefix: 24,
          encryptClusterNetworks: false,
          readOnlyRoot: false,
          processLimit: 64,
          startDeadlineMs: 30_000,
        },
        ...{ firewall: null, allowUnguarded, clock: systemClock, logger: silentLogger },
      });
    await expect(backend(false).start()).rejects.toMatchObject({ code: 'isolation-unavailable' });
    const accepted = backend(true);
    await accepted.start();
    onTestFinished(() => accepted.close());
    expect(accepted.capabilities.isolation).toMatchObject({ network: 'isolated', machine: 'open' });
  });

  it('is refused in another network namespace than the engine, where rules would guard nothing', async () => {
    const directory = await tempDirectory();
    const script = fileURLToPath(new URL('./backend-start.ts', import.meta.url));
    const node = [process.execPath, '--conditions=@backend.ai/source', '--import', import.meta.resolve('tsx'), script];
    const start = async (...prefix: string[]): Promise<unknown> => {
      const [file = '', ...args] = [...prefix, ...node, directory, engineSocket, subnetPool];
      return JSON.parse((await promisify(execFile)(file, args, { cwd: '/' })).stdout);
    };
    expect(await start('unshare', '--net')).toMatchObject({
      code: 'isolation-unavailable',
      message: 'The container engine has its networks out of reach of the agent.',
      hint: expect.stringContaining('network namespace'),
    });
    onTestFinished(removeRules);
    expect(await start()).toMatchObject({ machine: 'closed', egress: 'enforced' });
    const inPool = (await docker.listNetworks()).filter(({ IPAM }) =>
      IPAM?.Config?.some(({ Subnet }) => Subnet?.startsWith('10.213.')),
    );
    expect(inPool).toEqual([]);
  });
});
