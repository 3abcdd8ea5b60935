import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import type { KernelSpec } from '@backend.ai/contract';
import { newId } from '@backend.ai/core';
import Docker from 'dockerode';
import { containerOptions, limitsWithin } from '../../apps/agent/src/backends/docker/container-options.ts';
import { kernelImage } from '../../apps/agent/src/backends/docker/kernel-image.ts';
import {
  giveScratch,
  makeScratch,
  scratchPaths,
  writeUserTables,
} from '../../apps/agent/src/backends/scratch/scratch.ts';
import { RunnerClient, runnerFiles } from '../../apps/agent/src/runner/index.ts';
import { timed } from './timed.ts';

/** What the containers of kernels cost when nobody remembers them: one network for all, and nothing that is kept. */
export interface BareEngine {
  /** Creates and starts a container like that of a kernel, and has its runner answer. */
  start(): Promise<BareContainer>;
  /** The same with a network of its own, as a session has one. */
  startWithNetwork(): Promise<BareContainer>;
  close(): Promise<void>;
}

export interface BareContainer {
  /** What each call to the engine took, and the wait for the first answer after them, in milliseconds. */
  readonly steps: Readonly<Record<'create' | 'start' | 'ping', number>>;
  execute(code: string): Promise<string>;
  end(): Promise<void>;
}

let made = 0;
/** Of the range that is kept for tests of address ranges; sessions get theirs elsewhere. */
const subnetOf = (index: number): string => `10.97.${index}.0/26`;
const memoryBytes = 192 * 1024 ** 2;
const label = `ai.backend.bench-${process.pid}`;
const user = { uid: 64_000, gid: 64_000 };

export async function openBareEngine(socketPath: string, imageName: string, folder: string): Promise<BareEngine> {
  const docker = new Docker({ socketPath });
  const { Id: id, Config } = await docker.getImage(imageName).inspect();
  const image = kernelImage(imageName, { id, labels: Config.Labels ?? {}, environ: Config.Env ?? [] } as never);
  const runnerFolder = runnerFiles();
  const { lockedMemory } = limitsWithin(
    readFileSync('/proc/self/limits', 'utf8'),
    readFileSync('/proc/self/status', 'utf8'),
  );
  const makeNetwork = async (): Promise<Docker.Network> => {
    const Name = `bench-bare-${process.pid}-${made}`;
    return docker.createNetwork({ Name, Driver: 'bridge', IPAM: { Config: [{ Subnet: subnetOf(made++ % 250) }] } });
  };
  const common = await makeNetwork();
  const start = async (network: Docker.Network): Promise<BareContainer> => {
    const paths = scratchPaths(folder, newId());
    mkdirSync(folder, { recursive: true });
    makeScratch(paths, false);
    giveScratch(paths, user.uid);
    writeUserTables(paths, user.uid, user.gid);
    const spec = kernelSpec(imageName, made++);
    const options = containerOptions({
      ...{
        spec,
        image,
        paths,
        user,
        runnerFolder,
        carried: null,
        limits: { openFiles: 1024, processes: 1024, lockedMemory },
        addresses: null,
        readOnlyRoot: false,
        shiftsUsers: false,
        knowsIPv6: existsSync('/proc/sys/net/ipv6/conf/all'),
      },
      name: `bench-bare-${process.pid}-${spec.kernelId}`,
      labels: { [label]: '' },
      isWarm: false,
      network: network.id,
      resources: {
        ...{ cpus: 1, memoryBytes, shmemBytes: memoryBytes / 3, processes: 64 },
        devices: { environ: {}, files: [], groups: [], mounts: [], deviceRequests: [], resourceLines: {} },
      },
    });
    const [createMs, container] = await timed(() => docker.createContainer(options));
    const [startMs] = await timed(() => container.start());
    const connect = { runDirectory: paths.run, deadlineMs: 60_000 };
    const [pingMs, client] = await timed(() => RunnerClient.connect(connect));
    return {
      steps: { create: createMs, start: startMs, ping: pingMs },
      async execute(code) {
        const runId = newId();
        await client.execute(runId, { mode: 'query', code });
        const { console } = await client.collect(runId, 0, { flushMs: 0, holdMs: 30_000 });
        return console.map(([, data]) => String(data)).join('');
      },
      async end() {
        client.close();
        await container.remove({ force: true, v: true });
        if (network !== common) await network.remove();
      },
    };
  };
  return {
    start: () => start(common),
    startWithNetwork: async () => start(await makeNetwork()),
    async close() {
      // Those of a run that failed, too.
      const left = await docker.listContainers({ all: true, filters: JSON.stringify({ label: [label] }) });
      for (const { Id } of left) await docker.getContainer(Id).remove({ force: true, v: true });
      await common.remove();
    },
  };
}

function kernelSpec(image: string, index: number): KernelSpec {
  return {
    ...{ kernelId: newId(), sessionId: newId(), sessionName: `bare-${index}`, accessKey: 'AKBENCH', image },
    ...{ clusterRole: 'main', clusterIndex: 1, hostname: 'main1', environ: {} },
    slots: { cpu: '1', mem: String(memoryBytes) },
  };
}
