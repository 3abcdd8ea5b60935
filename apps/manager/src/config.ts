import { pullPolicies } from '@backend.ai/contract';
import { AppError, type SessionStatus, transientDeadlines } from '@backend.ai/core';
import { z } from 'zod';

export const defaultAdminEmail = 'admin@backend.ai.local';
export const managerVersion = '0.1.0';

const ms = z.number().int().min(0).max(2_147_483_647);

/** Values without secrets: those come as files, named here and read where they are needed. */
export const managerConfigSchema = z.strictObject({
  /** Name of this manager among managers. */
  managerId: z
    .string()
    .regex(/^[A-Za-z0-9._:-]{1,128}$/)
    .default('manager'),
  /** One process holds the whole cluster. */
  embedded: z.boolean().default(false),
  version: z.string().default(managerVersion),
  /** Key under which recoverable secrets are stored; made at the first start, mode 0600. */
  installationKeyFile: z.string().min(1),
  adminEmail: z.email().default(defaultAdminEmail),
  leaderTtlMs: ms.min(100).default(6_000),
  heartbeatMs: ms.min(10).default(3_000),
  /** An agent not heard of for longer is LOST: it gets nothing new, and what was being started there starts elsewhere. */
  agentLostAfterMs: ms.min(50).default(15_000),
  /** Kernels of an agent that stays LOST for longer are given up. Unreachable is not dead: be generous. */
  agentLostGraceMs: ms.default(300_000),
  /** Reconcilers run at hints; this is how often they run anyway. */
  tickMs: ms.min(10).default(5_000),
  /** First wait before an agent that refused is asked again; doubles up to `refusalBackoffMaxMs`. */
  refusalBackoffMs: ms.min(1).default(1_000),
  refusalBackoffMaxMs: ms.min(1).default(60_000),
  /** How long an agent may take to answer an order; then its outcome is unknown. */
  orderDeadlineMs: ms.min(1).default(10_000),
  /** A start or end that was asked for without an answer is asked about again after this. */
  askAgainMs: ms.min(1).default(3_000),
  /** How long the transient states may last; the table of the core where absent. */
  deadlinesMs: z
    .partialRecord(z.enum(Object.keys(transientDeadlines) as [SessionStatus, ...SessionStatus[]]), ms)
    .default({}),
  /** How often running sessions are judged by the idle checkers. */
  judgeIdleEveryMs: ms.min(10).default(15_000),
  /** How long a registry may take for one answer. */
  registryTimeoutMs: ms.min(1).default(30_000),
  /** When agents fetch images that registries have. */
  imagePullPolicy: z.enum(pullPolicies).default('digest'),
  /** How long a looked-up key pair is believed. */
  keypairCacheMs: ms.default(5_000),
  /** Callbacks of sessions may go to this machine and its networks, too. */
  allowPrivateCallbacks: z.boolean().default(false),
  /** How long the receiver of a callback may take to answer. */
  callbackTimeoutMs: ms.min(1).default(10_000),
  /** First wait before a callback that failed is tried again; doubles. */
  callbackBackoffMs: ms.min(1).default(1_000),
  /** All stops together, in milliseconds. */
  stopDeadlineMs: ms.default(10_000),
});

export type ManagerConfig = z.infer<typeof managerConfigSchema>;
export type ManagerConfigInput = z.input<typeof managerConfigSchema>;

/** @throws AppError `config-invalid` */
export function parseManagerConfig(input: ManagerConfigInput): ManagerConfig {
  const parsed = managerConfigSchema.safeParse(input);
  if (!parsed.success) {
    const lines = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(configuration)'}: ${issue.message}`);
    throw new AppError('config-invalid', `The manager's configuration is invalid. ${lines.join('; ')}`);
  }
  const config = parsed.data;
  if (config.agentLostAfterMs < 2 * config.heartbeatMs) {
    throw new AppError('config-invalid', 'agentLostAfterMs must be at least twice heartbeatMs.');
  }
  return config;
}
