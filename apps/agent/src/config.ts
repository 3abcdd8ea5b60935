import { agentIdSchema, invalidInput, slotTextsSchema } from '@backend.ai/contract';
import { AppError, type Clock, isLoopback, parseSubnet } from '@backend.ai/core';
import type { PeerIdentity } from '@backend.ai/rpc';
import type { Logger } from '@backend.ai/telemetry';
import { z } from 'zod';
import { engineSocketFor } from './backends/choose-backend.ts';
import type { FakeScript } from './backends/fake/fake-backend.ts';
import type { Interpreter } from './backends/process/runtimes.ts';
import type { StepFaults } from './kernels/create-steps.ts';

const portSchema = z.number().int().min(0).max(65_535);

/** PEM texts. */
const tlsSchema = z.strictObject({ cert: z.string(), key: z.string() });

/** Where kernels are containers. */
export const dockerSchema = z.strictObject({
  /** Of Docker, or of Podman's compatible service. Absent: see `engineSocketFor`. */
  socket: z.string().startsWith('/').optional(),
  /** The networks of sessions are parts of it. */
  subnetPool: z
    .string()
    .refine((text) => parseSubnet(text) !== null, 'is no range of addresses such as 10.99.0.0/16')
    .default('10.99.0.0/16'),
  /** Bits of the network of one session: 26 leaves room for 60 kernels. */
  subnetPrefix: z.number().int().min(16).max(29).default(26),
  /** Networks that are ready before a session comes. */
  spareNetworks: z.number().int().min(0).max(64).default(4),
  /** The networks of sessions over a swarm are parts of it; the same for all agents of a swarm, and apart from all others. */
  clusterSubnetPool: z
    .string()
    .refine((text) => parseSubnet(text) !== null, 'is no range of addresses such as 10.98.0.0/16')
    .default('10.98.0.0/16'),
  /** Bits of the network of one session over a swarm. Each machine takes an address besides its kernels. */
  clusterSubnetPrefix: z.number().int().min(16).max(28).default(24),
  /** Whether what passes between the machines of a swarm is encrypted. */
  encryptClusterNetworks: z.boolean().default(false),
  /** Whether kernels can change nothing of their image's files. */
  readOnlyRoot: z.boolean().default(false),
  /**
   * Whether containers may be started where no firewall keeps them from the ports of this machine. A manager on the same
   * machine does without.
   */
  allowUnguarded: z.boolean().default(false),
});

/** What an operator decides. */
export const agentConfigSchema = z.strictObject({
  /** The name in its identity, unless said otherwise. */
  agentId: agentIdSchema.optional(),
  resourceGroup: z.string().min(1).max(64).default('default'),
  /** Everything the agent keeps; nobody else's files lie there. */
  dataDir: z.string().startsWith('/'),
  /** Addresses of managers: `ws(s)://host:port`, `inproc:NAME`. */
  managers: z.array(z.string().min(1)).min(1),
  /** Public keys of managers to trust besides those that the join token and the managers themselves tell. */
  managerKeys: z.array(z.string().min(1)).default([]),
  /** Single-use, for the first connection ever. */
  joinToken: z.string().optional(),
  /** Where managers reach the agent. */
  rpc: z.union([
    z.strictObject({
      host: z.string(),
      port: portSchema,
      tls: tlsSchema.optional(),
    }),
    z.strictObject({ inProcessName: z.string().min(1) }),
  ]),
  dataPort: z.strictObject({ host: z.string().default('127.0.0.1'), port: portSchema, tls: tlsSchema.optional() }),
  /** Address told to managers instead of the one listened on. */
  advertise: z.strictObject({ rpc: z.string().optional(), data: z.string().optional() }).default({}),
  /** `auto`: a container engine that answers and has an image for kernels; otherwise processes. */
  backend: z.enum(['auto', 'docker', 'process', 'fake']).default('auto'),
  docker: dockerSchema.prefault({}),
  /** Instead of what the machine has. */
  slots: slotTextsSchema.optional(),
  /** Run kernels even where nothing keeps them apart: for one user on loopback. */
  allowUnisolated: z.boolean().default(false),
  /** Only this sandbox; absent: the strongest that works. */
  sandbox: z.enum(['bubblewrap', 'unshare', 'none']).optional(),
  /** Kept from kernels; what is absent is decided by the size of the machine. */
  reserve: z
    .strictObject({ cpus: z.number().int().min(0).optional(), memoryBytes: z.number().int().min(0).optional() })
    .default({}),
  allocation: z
    .strictObject({
      /** How the devices of one kind are used: spread, or one after the other. */
      strategy: z.enum(['evenly', 'fill']).default('evenly'),
      affinity: z.enum(['interleaved', 'prefer-single-node']).default('interleaved'),
      /** Whether kernels are kept to processors of their own, where these are those of the machine. */
      pinCpus: z.boolean().default(true),
    })
    .prefault({}),
  accelerators: z
    .strictObject({
      /** `auto`, names of built-in plugins, absolute paths of modules. */
      plugins: z.array(z.string().min(1)).default(['auto']),
      /** By plugin and setting: `cuda.allocation-mode`. */
      settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.array(z.string())])).default({}),
      /** How often devices are looked for again, in milliseconds. */
      refreshEveryMs: z.number().int().min(10).default(30_000),
    })
    .prefault({}),
  useCgroups: z.boolean().default(true),
  /** Processes and threads of one kernel. */
  processLimit: z.number().int().min(16).max(100_000).default(512),
  startDeadlineMs: z.number().int().min(1).default(30_000),
  /** How often what kernels use is measured. */
  measureEveryMs: z.number().int().min(10).default(5_000),
  /** Where programs are looked for besides the system's folders, as in $PATH. */
  path: z.string().default(''),
});
export type AgentConfig = z.infer<typeof agentConfigSchema>;

/** What the process around the agent gives it. */
export interface AgentDependencies {
  /** Kind `agent`, id the agent's. */
  readonly identity: PeerIdentity;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
  /** Instead of the interpreters found on the machine. */
  readonly runtimes?: readonly Interpreter[] | undefined;
  /** Behaviour of simulated kernels. */
  readonly fakeScript?: ((spec: { readonly kernelId: string }) => FakeScript) | undefined;
  /** Instead of a minute: what nobody knows and is younger stays, in milliseconds. */
  readonly strayGraceMs?: number | undefined;
  readonly faults?: StepFaults | undefined;
}

export type AgentOptions = z.input<typeof agentConfigSchema> & AgentDependencies;

/** Of the container engine, if one is used. */
export function engineSocket({ docker, dataDir }: Pick<AgentOptions, 'docker' | 'dataDir'>): string {
  return docker?.socket ?? engineSocketFor(dataDir, process.env);
}

/** @throws AppError `config-invalid` */
export function parseAgentConfig(input: z.input<typeof agentConfigSchema>): AgentConfig {
  const parsed = agentConfigSchema.safeParse(input);
  if (!parsed.success) {
    const { message, data } = invalidInput(parsed.error);
    throw new AppError('config-invalid', `The agent's configuration is not valid. ${message}`, { data });
  }
  const config = parsed.data;
  if (config.dataPort.tls === undefined && !isLoopback(config.dataPort.host)) {
    throw new AppError(
      'config-invalid',
      `Serving data on ${config.dataPort.host} needs TLS: files would travel in the clear.`,
      {
        hint: 'Configure a certificate and key, or set data-port.host to 127.0.0.1.',
      },
    );
  }
  if (config.allowUnisolated && 'host' in config.rpc && !isLoopback(config.rpc.host)) {
    throw new AppError('config-invalid', 'Kernels without isolation are allowed on loopback only.', {
      hint: 'Set rpc.host to 127.0.0.1, or do not allow unisolated kernels.',
    });
  }
  return config;
}
