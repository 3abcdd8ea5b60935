import { randomUUID } from 'node:crypto';
import type { KernelCluster } from '@backend.ai/contract';
import { parseSubnet } from '@backend.ai/core';
import { waitFor } from '@backend.ai/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clusterNetworkName } from '../src/backends/docker/cluster-networks.ts';
import { firewallRules } from '../src/backends/docker/firewall-rules.ts';
import { type AgentWorld, agentWorld, runCode, type StartedAgent, startKernel, textOf } from './agent-world.ts';
import { noSwarmBecause, type SwarmEngine, startSwarm } from './swarm-engines.ts';

const image = 'backend.ai/shell:latest';
const clusterSubnetPool = '10.215.0.0/20';
const subnetPool = '10.216.0.0/20';
const missing = noSwarmBecause();

interface Member extends StartedAgent {
  readonly world: AgentWorld;
  readonly engine: SwarmEngine;
}

describe.skipIf(missing !== null)(
  `a session on two engines of one swarm${missing ? ` (skipped: ${missing})` : ''}`,
  () => {
    let swarm: Awaited<ReturnType<typeof startSwarm>>;

    beforeAll(async () => {
      swarm = await startSwarm([image]);
    }, 240_000);
    afterAll(() => swarm?.close(), 120_000);

    async function agents(): Promise<[Member, Member]> {
      const members: Member[] = [];
      for (const engine of swarm.engines) {
        const docker = { socket: engine.socket, clusterSubnetPool, subnetPool, spareNetworks: 0 };
        const world = await agentWorld({ backend: 'docker', docker });
        members.push({ ...(await world.startAgent()), world, engine });
      }
      return members as [Member, Member];
    }

    /** `main1` on the first engine and `sub1` on the second. */
    async function session([main, sub]: readonly [Member, Member]) {
      const sessionId = randomUUID();
      const { network } = await main.api.ensureClusterNetwork.mutate({ sessionId });
      const cluster = (localRank: number): KernelCluster => ({
        ...{ localRank, network, replicas: { main: 1, sub: 1 } },
        hosts: [{ name: 'main1' }, { name: 'sub1' }],
      });
      const common = { image, sessionId };
      const first = await startKernel(main.world, main.api, { ...common, hostname: 'main1', cluster: cluster(0) });
      const second = await startKernel(sub.world, sub.api, {
        ...common,
        ...{ clusterRole: 'sub', hostname: 'sub1', cluster: cluster(1) },
      });
      const run = async (member: Member, kernelId: string, code: string): Promise<string> =>
        textOf(await runCode(member.api, kernelId, code));
      return {
        sessionId,
        network,
        onMain: (code: string) => run(main, first.kernelId, code),
        onSub: (code: string) => run(sub, second.kernelId, code),
        async end() {
          for (const [member, { kernelId }] of [
            [main, first],
            [sub, second],
          ] as const) {
            await member.api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
            await member.world.gateway.waitForEvent(kernelId, 'kernel-terminated');
          }
        },
      };
    }

    /** Whether somebody takes calls there. */
    const takesCalls = (to: string, port: number): string =>
      `nc -w 3 ${to} ${port} </dev/null >/dev/null 2>&1 && echo yes || echo no`;
    /** A program that takes one call after the other, on all addresses of its container. */
    const listen = 'while :; do echo here | nc -l -p 7000; done >/dev/null 2>&1 &';
    const addressOf = 'hostname -i';

    /** Between two calls nobody listens for a moment. */
    const reaches = (run: (code: string) => Promise<string>, to: string): Promise<unknown> =>
      waitFor(async () => (await run(takesCalls(to, 7000))) === 'yes\n', {
        what: `an answer of ${to}`,
        intervalMs: 250,
      });
    const firstOf = (addresses: string): string => addresses.trim().split(/\s+/)[0] ?? '';

    it('is told of by its agents: both name who manages it, and that one its name', async () => {
      const [manager, worker] = await agents();
      const [first, second] = [manager, worker].map(({ world }) => world.gateway.registrations.at(-1)?.swarm);
      expect(first?.swarmId).toMatch(/^[a-z0-9]+$/);
      expect(first?.managers).toEqual([first?.nodeId]);
      expect(second).toEqual({ nodeId: expect.not.stringMatching(`^${first?.nodeId}$`), managers: first?.managers });
    });

    it('has one network, on which its kernels find each other by name, and which goes when it is told to', async () => {
      const both = await agents();
      const cluster = await session(both);
      const { sessionId, onMain, onSub } = cluster;
      await Promise.all([onMain(listen), onSub(listen)]);
      await reaches(onMain, 'sub1');
      await reaches(onSub, 'main1');
      // A program that listens on its own name is found where the others look for it.
      const [ofMain, ofSub] = [firstOf(await onMain(addressOf)), firstOf(await onSub(addressOf))];
      expect([ofMain, ofSub]).toEqual([expect.stringMatching(/^10\.215\./), expect.stringMatching(/^10\.215\./)]);
      await reaches(onSub, ofMain);
      await reaches(onMain, ofSub);
      const [{ api, engine }] = both;
      // Once more is no other one.
      expect(await api.ensureClusterNetwork.mutate({ sessionId })).toEqual({ network: cluster.network });
      const found = () => engine.docker.listNetworks({ filters: { name: [clusterNetworkName(sessionId)] } });
      expect(await found()).toMatchObject([{ Driver: 'overlay', Internal: true, Attachable: true }]);
      await cluster.end();
      await api.removeClusterNetwork.mutate({ sessionId });
      expect(await found()).toEqual([]);
      await api.removeClusterNetwork.mutate({ sessionId });
    });

    it('is out of reach of other sessions', async () => {
      const both = await agents();
      const mine = await session(both);
      const others = await session(both);
      await others.onSub(listen);
      const address = firstOf(await others.onSub(addressOf));
      await reaches(others.onMain, address);
      expect(await mine.onMain(takesCalls(address, 7000))).toBe('no\n');
      expect(await mine.onSub(takesCalls(address, 7000))).toBe('no\n');
      for (const each of [mine, others]) {
        await each.end();
        await both[0].api.removeClusterNetwork.mutate({ sessionId: each.sessionId });
      }
    });

    it('cannot call the engines of the swarm where the rules of an agent stand, and meets as before', async () => {
      const both = await agents();
      const { sessionId, onMain, onSub, end } = await session(both);
      const [{ engine, api }, { engine: neighbour }] = both;
      const pool = parseSubnet(subnetPool)!;
      await onSub(listen);
      // The way beyond its machine, by the network that it has there.
      expect(await onMain(takesCalls(neighbour.address, 7946))).toBe('yes\n');
      const present = await engine.inNetwork('iptables', ['-t', 'mangle', '-S']);
      await engine.inNetwork('iptables-restore', ['--noflush'], firewallRules(pool, [], [], present) ?? '');
      expect(await onMain(takesCalls(neighbour.address, 7946))).toBe('no\n');
      expect(await onMain(takesCalls(engine.address, 2377))).toBe('no\n');
      await reaches(onMain, 'sub1');
      await end();
      await api.removeClusterNetwork.mutate({ sessionId });
    });

    it('has a network that cannot go while it uses it', async () => {
      const both = await agents();
      const cluster = await session(both);
      const [{ api, engine }] = both;
      const { sessionId } = cluster;
      await expect(api.removeClusterNetwork.mutate({ sessionId })).rejects.toMatchObject({ code: 'engine-failed' });
      await cluster.onMain(listen);
      await reaches(cluster.onSub, 'main1');
      await cluster.end();
      await api.removeClusterNetwork.mutate({ sessionId });
      await waitFor(
        async () => (await engine.docker.listNetworks({ filters: { name: [cluster.network] } })).length === 0,
      );
    });
  },
);
