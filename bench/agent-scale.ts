import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AgentGatewayService, createAgentGatewayRouter, type KernelSpec } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import { createRpcServer, generateIdentity, pinnedKeys } from '@backend.ai/rpc';
import { ensureRequestId, silentLogger as logger } from '@backend.ai/telemetry';
import { engineSocket } from '@backend.ai/testing';
import { createAgent } from '../apps/agent/src/index.ts';
import type { Bench } from './bench.ts';
import { inTurns } from './support/in-turns.ts';

const image = 'backend.ai/python:3.11';
const memoryBytes = 192 * 1024 ** 2;

/**
 * What containers cost an agent that nobody asks for anything: measurements every five seconds, heartbeats every three,
 * the connections to their runners. The other end of the heartbeats is in the same process and counts as well.
 */
export const bench: Bench = {
  name: 'agent-scale',
  async run({ quick }) {
    const count = quick ? 20 : 200;
    const seconds = quick ? 15 : 60;
    const folder = mkdtempSync(join(tmpdir(), 'bench-agent-scale-'));
    const [identity, manager] = [generateIdentity('agent', 'i-bench'), generateIdentity('manager', 'manager')];
    let beats = 0;
    const gateway: AgentGatewayService = {
      register: async () => ({ heartbeatMs: 3_000, ackedSeq: 0 }),
      heartbeat: async ({ measurements }) => {
        if (measurements?.length === count) beats += 1;
        return { unknownKernels: [] };
      },
      reportImages: async () => {},
      reportWarmSlots: async () => {},
      reportEvents: async ({ events }) => ({ ackedSeq: events.at(-1)?.seq ?? 0 }),
    };
    const server = createRpcServer({
      router: createAgentGatewayRouter(gateway),
      identity: manager,
      directory: pinnedKeys('agent', [identity.publicKey]),
      allow: ['agent'],
      logger,
    });
    const agent = createAgent({
      dataDir: folder,
      managers: [server.listenInProcess('bench-manager').address],
      managerKeys: [manager.publicKey],
      identity,
      logger,
      backend: 'docker',
      docker: { socket: engineSocket() },
      rpc: { inProcessName: 'bench-agent' },
      dataPort: { host: '127.0.0.1', port: 0 },
      slots: { cpu: String(count), mem: String(count * memoryBytes) },
      path: process.env.PATH ?? '',
    });
    try {
      await agent.start();
      await agent.registered;
      const context = { requestId: 'bench', actor: { kind: 'anonymous' }, headers: { epoch: 1 }, signal: undefined };
      await inTurns(count, 4, async () => {
        await ensureRequestId(() => agent.service.createKernel(kernelSpec(), context as never));
      });
      while (beats === 0) await sleep(100);
      const [cpu, begun, beatsBefore] = [process.cpuUsage(), performance.now(), beats];
      await sleep(seconds * 1_000);
      const used = process.cpuUsage(cpu);
      const share = ((used.user + used.system) / 1_000 / (performance.now() - begun)) * 100;
      const residentMiB = process.memoryUsage().rss / 1024 ** 2;
      return {
        title: `An agent with ${count} idle containers for ${seconds} s`,
        columns: ['processor, % of a core', 'resident, MiB', 'heartbeats with all kernels'],
        rows: [[share, residentMiB, beats - beatsBefore]],
        targets: [
          { name: 'processor time', value: share, limit: 5, unit: '% of a core', ok: share <= 5 },
          { name: 'resident memory', value: residentMiB, limit: 250, unit: 'MiB', ok: residentMiB <= 250 },
        ],
      };
    } finally {
      await agent.endKernels('cluster-shutdown', 300_000);
      await agent.close();
      await server.close({ graceMs: 0 });
      rmSync(folder, { recursive: true });
    }
  },
};

function kernelSpec(): KernelSpec {
  return {
    ...{ kernelId: newId(), sessionId: newId(), sessionName: 'bench', accessKey: 'AKBENCH', image },
    ...{ clusterRole: 'main', clusterIndex: 1, hostname: 'main1', environ: {} },
    slots: { cpu: '1', mem: String(memoryBytes) },
  };
}
