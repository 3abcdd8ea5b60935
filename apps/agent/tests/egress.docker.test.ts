import type { EgressPolicy } from '@backend.ai/contract';
import { parseSubnet } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { chainsOf, firewallRules } from '../src/backends/docker/firewall-rules.ts';
import { nameServersOfMachine } from '../src/backends/docker/name-servers.ts';
import {
  type AgentWorld,
  agentWorld,
  runCode,
  type StartedAgent,
  startKernel,
  type WorldOptions,
} from './agent-world.ts';
import { docker, dockerOptions, testImages } from './docker-world.ts';
import { type Call, dial, dialAll, iptables, neighbour } from './neighbours.ts';
import { orderFor, slotSpec, untilSlot } from './warm-slot-suite.ts';

const images = await testImages();
const image = images.python;
/** Not that of other agents of this machine: what is done to its rules is felt by nobody else. */
const subnetPool = '10.214.0.0/20';
const chains = chainsOf(parseSubnet(subnetPool)!);
const guarded = { ...dockerOptions, docker: { ...dockerOptions.docker, subnetPool, spareNetworks: 2 } };
/** Where rules are taken away: networks that are made meanwhile would bring them back. */
const calm = { ...guarded, docker: { ...guarded.docker, spareNetworks: 0 } };

const listed = '203.0.113.10';
const other = '203.0.113.20';
const noCalls: EgressPolicy = { policy: 'none' };
const list: EgressPolicy = {
  policy: 'allow-list',
  allow: [
    { to: '203.0.113.10/32', protocol: 'tcp', ports: ['443', '8000-8100'] },
    { to: '203.0.113.10/32', protocol: 'udp', ports: ['9000'] },
  ],
};

/** Lines in the chains of the system that are ours. */
function entries(): string[] {
  const lines = iptables('-S').split('\n');
  const bridges = lines.flatMap((line) => /^-A INPUT ! -s 10\.214\.\S+ -i (\S+) /.exec(line)?.[1] ?? []);
  const ours = [chains.toMachine, chains.through, ...bridges];
  return lines.filter((line) => /^-A (INPUT|FORWARD) /.test(line) && ours.some((name) => line.includes(name)));
}

/** As `iptables -F` would, without what others have there. */
function flush(): void {
  for (const line of entries()) iptables(...line.replace('-A', '-D').split(' '));
  iptables('-F', chains.through);
}

async function world(options: WorldOptions = guarded): Promise<AgentWorld> {
  neighbour(listed, other);
  onTestFinished(() => {
    // The rules of networks are gone with them.
    expect(iptables('-S')).not.toContain('! -s 10.214.');
    flush();
    iptables('-F', chains.toMachine);
    for (const chain of [chains.toMachine, chains.through]) iptables('-X', chain);
  });
  return await agentWorld(options);
}

const calls: Readonly<Record<string, Call>> = {
  'listed tcp': [listed, 443],
  'listed range': [listed, 8050],
  'listed udp': [listed, 9000, 'udp'],
  'unlisted port': [listed, 80],
  'unlisted udp': [listed, 443, 'udp'],
  'unlisted host': [other, 443],
};

async function reach(api: StartedAgent['api'], kernelId: string): Promise<Record<string, string>> {
  const outcomes = await dialAll(api, kernelId, Object.values(calls));
  return Object.fromEntries(Object.keys(calls).map((name, index) => [name, outcomes[index]!]));
}

const nothing = Object.fromEntries(Object.keys(calls).map((name) => [name, 'dropped']));
const onlyListed = { ...nothing, 'listed tcp': 'refused', 'listed range': 'refused', 'listed udp': 'refused' };
const everything = Object.fromEntries(Object.keys(calls).map((name) => [name, 'refused']));

describe.runIf(process.getuid?.() === 0)('the egress policy of a session in containers', () => {
  it('lets everything beyond the machine be called where it is open, what is listed or nothing elsewhere', async () => {
    const w = await world();
    const { agent, api } = await w.startAgent();
    expect(agent.status().isolation).toMatchObject({ machine: 'closed', egress: 'enforced' });
    const { kernelId: open } = await startKernel(w, api, { image });
    const { kernelId: some } = await startKernel(w, api, { image, egress: list });
    const { kernelId: none } = await startKernel(w, api, { image, egress: { policy: 'none' } });
    expect(await reach(api, open)).toEqual(everything);
    expect(await reach(api, some)).toEqual(onlyListed);
    expect(await reach(api, none)).toEqual(nothing);
  });

  it('is not put in place again where all of it is there', async () => {
    const w = await world();
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { image, egress: list });
    const [found] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
    const [{ NetworkID = '' } = {}] = Object.values(found?.NetworkSettings.Networks ?? {});
    const { IPAM } = (await docker.getNetwork(NetworkID).inspect()) as { IPAM: { Config: Array<{ Subnet: string }> } };
    const subnet = parseSubnet(IPAM.Config[0]!.Subnet)!;
    const network = { subnet, bridge: `br-${NetworkID.slice(0, 12)}`, egress: list };
    expect(firewallRules(parseSubnet(subnetPool)!, [network], nameServersOfMachine(), iptables('-S'))).toBeNull();
  });

  it('holds in a container that was started ahead of its session, and after it was handed over and the agent was away', async () => {
    const w = await world();
    const first = await w.startAgent();
    const [some, none] = [
      { ...slotSpec(image ?? ''), egress: list },
      { ...slotSpec(image ?? ''), egress: noCalls },
    ];
    await first.api.keepWarmSlots.mutate({ slots: [some, none] });
    for (const slot of [some, none]) {
      await untilSlot(w, slot.slotId, 'ready');
      await first.api.createKernel.mutate(orderFor(slot, { egress: slot.egress }));
      const { steps } = await w.gateway.waitForEvent(slot.slotId, 'kernel-started');
      expect(steps.map(({ step }) => step)).toContain('hand-over');
    }
    expect(await reach(first.api, some.slotId)).toEqual(onlyListed);
    expect(await reach(first.api, none.slotId)).toEqual(nothing);
    await first.agent.close();
    flush();
    const { api } = await w.startAgent();
    expect(await reach(api, some.slotId)).toEqual(onlyListed);
    expect(await reach(api, none.slotId)).toEqual(nothing);
  });

  it('is in force after the agent was away and somebody has flushed the rules, and soon after they were while it is there', async () => {
    const w = await world(calm);
    const first = await w.startAgent();
    const { kernelId: some } = await startKernel(w, first.api, { image, egress: list });
    const { kernelId: none } = await startKernel(w, first.api, { image, egress: { policy: 'none' } });
    await first.agent.close();
    flush();
    const { api } = await w.startAgent();
    expect(await reach(api, some)).toEqual(onlyListed);
    expect(await reach(api, none)).toEqual(nothing);

    await waitFor(() => {
      flush();
      return entries().length === 0;
    });
    await waitFor(async () => {
      expect(await reach(api, some)).toEqual(onlyListed);
      expect(await reach(api, none)).toEqual(nothing);
      return true;
    });
  });

  it('leaves the kernels of one session to one another, by name, and to the agent, where it is none', async () => {
    const w = await world();
    const { api } = await w.startAgent();
    const cluster = { replicas: { main: 1, sub: 1 }, hosts: [{ name: 'main1' }, { name: 'sub1' }] };
    const egress: EgressPolicy = { policy: 'none' };
    const main = await startKernel(w, api, { image, egress, cluster: { ...cluster, localRank: 0 } });
    const sub = { clusterRole: 'sub' as const, hostname: 'sub1', cluster: { ...cluster, localRank: 1 } };
    const second = await startKernel(w, api, { image, egress, sessionId: main.spec.sessionId, ...sub });
    await runCode(api, second.kernelId, 'import socket\ns = socket.create_server(("", 8123))');
    expect(await dial(api, main.kernelId, 'sub1', 8123)).toBe('open');

    const stranger = { ...sub, hostname: 'sub2', sessionId: main.spec.sessionId };
    await expect(startKernel(w, api, { image, ...stranger })).rejects.toThrow('state-conflict');
  });

  it('goes with its session: the next one with its addresses is free', async () => {
    const w = await world(calm);
    const { api } = await w.startAgent();
    const first = await startKernel(w, api, { image, egress: { policy: 'none' } });
    const rangeOf = async (kernelId: string): Promise<string | undefined> => {
      const [found] = await docker.listContainers({ filters: { label: [`ai.backend.kernel-id=${kernelId}`] } });
      return Object.values(found?.NetworkSettings.Networks ?? {})[0]?.Gateway;
    };
    const range = await rangeOf(first.kernelId);
    await api.destroyKernel.mutate({ kernelId: first.kernelId, reason: 'user-requested' });
    await w.expectNoRemains(first.kernelId);
    const { kernelId } = await startKernel(w, api, { image });
    expect(await rangeOf(kernelId)).toBe(range);
    expect(await dial(api, kernelId, other, 443)).toBe('refused');
  });

  it('is refused with the reason where nothing can enforce it', async () => {
    const w = await agentWorld({ backend: 'process', allowUnisolated: true });
    const { api } = await w.startAgent();
    await expect(startKernel(w, api, { egress: { policy: 'none' } })).rejects.toMatchObject({
      code: 'isolation-unavailable',
      data: { egress: 'none', backend: 'process' },
      hint: expect.stringContaining('firewall'),
    });
  });
});
