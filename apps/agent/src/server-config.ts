import { hostname } from 'node:os';
import { join } from 'node:path';
import { agentIdSchema } from '@backend.ai/contract';
import { AppError, idOfHost, isLoopback, parseBinarySize, parseResourceSlots, slotsToTexts } from '@backend.ai/core';
import {
  type ConfigDefinition,
  type ConfigValues,
  checkTlsListener,
  defineConfig,
  host,
  loggingSection,
  metricsSection,
  path,
  port,
  readTlsFiles,
  secret,
  tlsListener,
  url,
} from '@backend.ai/runtime';
import { z } from 'zod';
import { type AgentOptions, agentConfigSchema, dockerSchema, engineSocket } from './config.ts';

/** Limits and defaults of what both a server and an embedded cluster know are those of `config.ts`. */
const known = agentConfigSchema.shape;
const docker = dockerSchema.shape;
const ms = 'milliseconds';

const sections = {
  agent: z
    .strictObject({
      id: agentIdSchema.optional().meta({
        description: 'Name of this agent, different for each. Unset: i- and the name of the host',
        example: 'i-1',
        expected: 'a name of at most 64 letters, digits, ".", "_" and "-"',
      }),
      dataDir: path()
        .default('/var/lib/backend.ai/agent')
        .describe('Folder of this agent: its key, kernels and their files. Nothing else may lie there'),
      backend: known.backend.describe(
        'What makes kernels: containers (docker), sandboxed processes, or nothing real (fake). auto: containers where the engine answers and has an image for kernels, or was used before and does not answer; otherwise processes',
      ),
      resourceGroup: known.resourceGroup.describe('Which sessions may come here; a join token may say otherwise'),
      startDeadlineMs: known.startDeadlineMs.meta({ description: 'How long a kernel may take to start', unit: ms }),
    })
    .describe('The agent itself.'),
  manager: z
    .strictObject({
      addresses: z
        .array(url('ws', 'wss'))
        .min(1)
        .default(['ws://127.0.0.1:8092'])
        .meta({
          description: 'RPC addresses of managers; one that does not answer is followed by the next',
          example: ['wss://manager-1:8092', 'wss://manager-2:8092'],
        }),
      joinToken: secret().optional().meta({
        description:
          'Single-use, for the first connection ever; made on a manager with: mgr peers token. It also tells the keys of the managers',
        example: 'change me',
      }),
      publicKeys: known.managerKeys.meta({
        description: 'Keys of managers to trust besides those that the join token and the managers tell',
      }),
    })
    .describe('Where the managers are and how to know them.'),
  rpc: z.strictObject(tlsListener(6011)).describe('Where managers reach this agent.'),
  dataPort: z
    .strictObject({
      host: host().default('127.0.0.1').describe('Address to listen on. Off loopback with the certificate of [rpc]'),
      port: port().default(6012).describe('Port to listen on; 0 takes any free one'),
    })
    .describe('Carries files and streams into kernels.'),
  metrics: metricsSection(6003),
  advertise: z
    .strictObject({
      rpc: url('ws', 'wss').optional().meta({
        description: 'Address of [rpc] as managers see it, where that is another than the one listened on',
        example: 'wss://agent-1.example:6011',
      }),
      data: z.string().min(1).optional().meta({
        description: 'Address of [data-port] as managers see it',
        example: 'agent-1.example:6012',
        expected: 'HOST:PORT',
      }),
    })
    .describe('For agents behind address translation.'),
  resources: z
    .strictObject({
      slots: z
        .record(z.string(), z.union([z.string(), z.number()]))
        .refine(areSlots)
        .optional()
        .meta({
          description: 'What is offered, instead of all that the machine has',
          example: { cpu: 4, mem: '8g' },
          expected: 'a table such as { cpu = 4, mem = "8g" }',
        }),
      reservedCpu: z.number().int().min(0).optional().meta({
        description: 'Processors kept from kernels. Unset: 1 of eight or more, else none',
        example: 1,
      }),
      reservedMem: z.string().refine(isSize).optional().meta({
        description: 'Memory kept from kernels. Unset: a sixteenth, between 128 MiB and 1 GiB',
        example: '1g',
        expected: 'a size such as "1g"',
      }),
      strategy: z
        .enum(['evenly', 'fill'])
        .default('evenly')
        .describe('How devices of one kind are used: spread over them, or one filled after the other'),
      affinity: z
        .enum(['interleaved', 'prefer-single-node'])
        .default('interleaved')
        .describe('How the NUMA nodes of the machine are used: in turn, or one used up before the next'),
      pinCpus: z.boolean().default(true).describe('Whether kernels are kept to processors of their own'),
      useCgroups: known.useCgroups.describe('Whether limits are set with cgroups where the machine allows it'),
      processLimit: known.processLimit.describe('Processes and threads of one kernel'),
    })
    .describe('What kernels may use.'),
  docker: z
    .strictObject({
      socket: path().optional().meta({
        description:
          "Socket of the container engine; left out: that of the containers that the agent has, else Docker's, or where there is none Podman's",
        example: '/run/podman/podman.sock',
      }),
      subnetPool: docker.subnetPool.describe('Range of addresses that networks of sessions are cut from'),
      subnetPrefix: docker.subnetPrefix.describe('Size of the network of one session, in bits of its prefix'),
      spareNetworks: docker.spareNetworks.describe(
        'Networks that are ready before a session comes, which then starts sooner; each takes a range of addresses, all of them 1/16 of the pool at most',
      ),
      clusterSubnetPool: docker.clusterSubnetPool.describe(
        'Range of addresses that networks of sessions over a swarm are cut from; apart from every other network of its machines',
      ),
      clusterSubnetPrefix: docker.clusterSubnetPrefix.describe(
        'Size of the network of one session over a swarm, in bits of its prefix; each machine takes an address besides its kernels',
      ),
      encryptClusterNetworks: docker.encryptClusterNetworks.describe(
        'Encrypt what passes between the machines of a swarm; their kernels need ESP',
      ),
      readOnlyRoot: docker.readOnlyRoot.describe("Whether kernels can change nothing of their image's files"),
      allowUnguarded: docker.allowUnguarded.describe(
        'Start kernels even where the agent, for want of root or iptables, cannot keep them from the ports of its machine and the metadata of its cloud; not needed on loopback',
      ),
    })
    .describe('Where kernels are containers.'),
  accelerators: z
    .strictObject({
      plugins: z
        .array(z.string().min(1))
        .default(['auto'])
        .describe('cuda, rocm, mock, or absolute paths of modules; auto: cuda and rocm where their tools are found'),
      settings: z
        .record(z.string(), z.union([z.string(), z.number()]))
        .default({})
        .meta({
          description: 'Settings of plugins, as PLUGIN.SETTING; see docs/user/accelerators.md',
          example: { 'cuda.allocation-mode': 'fractional', 'mock.devices-file': '/etc/backend.ai/mock.toml' },
          expected: 'a table such as { "cuda.allocation-mode" = "fractional" }',
        }),
    })
    .describe('GPUs and their like.'),
  sandbox: z
    .strictObject({
      kind: known.sandbox.meta({
        description: 'Only this one. Unset: the strongest that works',
        example: 'bubblewrap',
      }),
      allowUnisolated: known.allowUnisolated.describe(
        'Run kernels even where nothing keeps them apart: for one user, on loopback',
      ),
      path: z.string().optional().meta({
        description: 'Folders in which interpreters and tools are looked for besides the usual ones. Unset: $PATH',
        example: '/opt/python/bin:/usr/local/bin',
      }),
    })
    .describe('What keeps kernels apart.'),
  logging: loggingSection('kernels', 'rpc', 'data-port'),
};

type AgentValues = ConfigValues<typeof sections>;

function areSlots(slots: Readonly<Record<string, string | number>>): boolean {
  try {
    parseResourceSlots(slots);
    return true;
  } catch (error) {
    if (error instanceof AppError) return false;
    throw error;
  }
}

function isSize(text: string): boolean {
  try {
    parseBinarySize(text);
    return true;
  } catch {
    return false;
  }
}

/** `configs/agent.toml`. */
export const agentConfiguration: ConfigDefinition<typeof sections> = defineConfig({
  component: 'agent',
  command: 'ag',
  purpose: 'Runs kernels on one machine for its manager.',
  sections,
  check({ manager, rpc, dataPort, sandbox }, say) {
    checkTlsListener('rpc', rpc, say);
    const inTheClear = manager.addresses.find((address) => {
      const { protocol, hostname: name } = new URL(address);
      return protocol === 'ws:' && !isLoopback(name);
    });
    if (inTheClear) say('manager.addresses', `has ${inTheClear}: off loopback, TLS is mandatory (wss://)`);
    if (!isLoopback(dataPort.host) && rpc.tlsCertFile === undefined) {
      say('data-port.host', `is ${dataPort.host}: off loopback, rpc.tls-cert-file and rpc.tls-key-file are mandatory`);
    }
    if (sandbox.allowUnisolated && !isLoopback(rpc.host)) {
      say('sandbox.allow-unisolated', 'is for agents on loopback: set rpc.host to 127.0.0.1 or leave it out');
    }
  },
});

/** What an agent process is built from. */
export interface AgentServerOptions {
  readonly agent: Omit<AgentOptions, 'identity' | 'logger'> & { readonly agentId: string };
  readonly metrics: { readonly host: string; readonly port: number };
  readonly identityFile: string;
  /** Folder of the admin socket. */
  readonly runDir: string;
}

function agentIdOf({ id }: AgentValues['agent']): string {
  return id ?? idOfHost('agent', hostname());
}

function kernelFolder({ dataDir }: AgentValues['agent']): string {
  return join(dataDir, 'data');
}

/** Settings that follow from others and from the machine unless they are set. */
export function derivedAgentSettings({ agent, docker }: AgentValues): Record<string, string> {
  return {
    'agent.id': agentIdOf(agent),
    'docker.socket': engineSocket({ docker, dataDir: kernelFolder(agent) }),
  };
}

/**
 * @param path $PATH of this process.
 * @throws AppError `config-invalid` for TLS files that cannot be read
 */
export function agentServerOptions(values: AgentValues, path: string): AgentServerOptions {
  const { agent, manager, rpc, dataPort, metrics, advertise, resources, accelerators, sandbox } = values;
  const tls = readTlsFiles(rpc.tlsCertFile, rpc.tlsKeyFile);
  return {
    agent: {
      agentId: agentIdOf(agent),
      resourceGroup: agent.resourceGroup,
      dataDir: kernelFolder(agent),
      backend: agent.backend,
      startDeadlineMs: agent.startDeadlineMs,
      managers: [...manager.addresses],
      managerKeys: [...manager.publicKeys],
      ...(manager.joinToken === undefined ? {} : { joinToken: manager.joinToken.reveal() }),
      rpc: { host: rpc.host, port: rpc.port, ...(tls === undefined ? {} : { tls }) },
      dataPort: { ...dataPort, ...(tls === undefined ? {} : { tls }) },
      advertise,
      ...(resources.slots === undefined ? {} : { slots: slotsToTexts(parseResourceSlots(resources.slots)) }),
      docker: values.docker,
      reserve: {
        ...(resources.reservedCpu === undefined ? {} : { cpus: resources.reservedCpu }),
        ...(resources.reservedMem === undefined ? {} : { memoryBytes: Number(parseBinarySize(resources.reservedMem)) }),
      },
      allocation: { strategy: resources.strategy, affinity: resources.affinity, pinCpus: resources.pinCpus },
      accelerators,
      useCgroups: resources.useCgroups,
      processLimit: resources.processLimit,
      ...(sandbox.kind === undefined ? {} : { sandbox: sandbox.kind }),
      allowUnisolated: sandbox.allowUnisolated,
      path: sandbox.path ?? path,
    },
    metrics,
    identityFile: join(agent.dataDir, 'keys', 'agent.pem'),
    runDir: join(agent.dataDir, 'run'),
  };
}
