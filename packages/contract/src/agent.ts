import { z } from 'zod';
import { agentImagesSchema } from './image.ts';
import { batchEndSchema, type IsolationReport, isolationReportSchema, kernelIdSchema } from './kernel.ts';
import { type Metrics, metricsSchema } from './metric.ts';
import { slotTextsSchema } from './slot-texts.ts';
import { kernelMeasurementSchema } from './statistics.ts';
import { inputLimits, plainText } from './text.ts';

export const agentIdSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);

/** From which RPC version on an agent understands something. Version 2 reads the request id at the top level. */
export const rpcVersions = { operationHeaders: 3, beginBatch: 4 } as const;

/** Whether the engine of an agent belongs to a swarm: containers on nodes of one can share a network. */
export const swarmNodeSchema = z.object({
  nodeId: plainText(inputLimits.name),
  /** Of the swarm. Only nodes that manage it know it, and make networks; absent: this one joins them. */
  swarmId: plainText(inputLimits.name).optional(),
  /** Nodes that manage the swarm, as this one knows them. */
  managers: z.array(plainText(inputLimits.name)).max(100),
});
export type SwarmNode = z.infer<typeof swarmNodeSchema>;

export const agentRegistrationSchema = z.object({
  agentId: agentIdSchema,
  /** New at each start of the agent process. */
  bootId: plainText(inputLimits.name),
  /** What it understands: see `rpcVersions`. */
  rpcVersion: z.number().int().min(2),
  version: plainText(inputLimits.name),
  architecture: plainText(inputLimits.architecture),
  resourceGroup: plainText(inputLimits.name),
  backend: z.enum(['process', 'docker', 'fake']),
  /** Where managers reach its RPC: ws(s)://host:port, or `inproc:NAME` in an embedded cluster. */
  address: plainText(inputLimits.address),
  /** host:port of its data port. */
  dataAddress: plainText(inputLimits.address),
  /** What it offers in all. */
  slots: slotTextsSchema,
  /** What it can start without fetching anything. */
  images: agentImagesSchema,
  isolation: isolationReportSchema,
  /** What it can do that not every agent can; managers pass over what they do not know. Absent: nothing. */
  features: z.array(plainText(inputLimits.name)).max(100).optional(),
  /** Absent: it has no engine, or that is in no swarm. */
  swarm: swarmNodeSchema.optional(),
});
export type AgentRegistration = z.infer<typeof agentRegistrationSchema>;

/** Features of agents. */
export const agentFeatures = { warmSlots: 'warm-slots' } as const;

export const kernelReportSchema = z.object({
  kernelId: kernelIdSchema,
  sessionId: z.uuid(),
  state: z.enum(['preparing', 'running', 'terminating', 'terminated']),
  slots: slotTextsSchema,
  exitCode: z.number().int().nullable(),
  reason: z.string().nullable(),
  requestId: z.string(),
  isolation: isolationReportSchema.nullable(),
  batch: batchEndSchema.optional(),
  batchWaits: z.literal(true).optional(),
  paused: z.boolean().optional(),
  unknown: z.boolean().optional(),
});

/** Full truth of an agent at one moment, sent every few seconds and after each registration. */
export const heartbeatSchema = z.object({
  agentId: agentIdSchema,
  bootId: z.string(),
  kernels: z.array(kernelReportSchema),
  /** Last event sequence number handed out; the manager waits for missing ones before it trusts absence. */
  lastEventSeq: z.number().int().min(0),
  /** What its kernels use. Absent from agents that do not measure; managers that do not know it pass over it. */
  measurements: z.array(kernelMeasurementSchema).optional(),
  /** What the whole machine uses. Absent from agents that do not measure it. */
  machine: metricsSchema.optional(),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;

export const agentStatuses = ['ALIVE', 'LOST', 'TERMINATED'] as const;
export type AgentStatus = (typeof agentStatuses)[number];

/** As the API shows it. */
export interface AgentView {
  readonly id: string;
  readonly status: AgentStatus;
  readonly resourceGroup: string;
  readonly version: string;
  readonly architecture: string;
  readonly backend: string;
  readonly isolation: IsolationReport;
  readonly capacity: Record<string, string>;
  readonly used: Record<string, string>;
  /** Held by idle slots of warm pools, beside what is in use; sessions that need it get it. */
  readonly warm: Record<string, string>;
  readonly images: string[];
  readonly firstContact: string;
  readonly lastHeartbeat: string;
  /** What the whole machine uses now; null: nobody has told lately. */
  readonly machine: Metrics | null;
}
