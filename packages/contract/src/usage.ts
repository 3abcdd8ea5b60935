import type { KernelStatus } from '@backend.ai/core';
import { z } from 'zod';
import type { Metrics } from './metric.ts';
import { momentSchema } from './moment.ts';
import { inputLimits, plainText } from './text.ts';

/** How much was held for how long: amounts of resources times seconds, exact, from the ledger. */

export const usageKeys = ['session', 'user', 'project', 'domain'] as const;
export type UsageKey = (typeof usageKeys)[number];
export const usagePeriods = ['hour', 'day', 'month', 'whole'] as const;
export type UsagePeriod = (typeof usagePeriods)[number];

/** Rows that one report may have: periods times whoever used something. */
export const mostUsageRows = 10_000;
/** Kernels that one answer may tell of. */
export const mostKernelRows = 100_000;

export const usageReportSchema = z.strictObject({
  from: momentSchema,
  /** Not included. Null: now. */
  to: momentSchema.nullish(),
  /** One row for each of these. */
  by: z.enum(usageKeys).default('user'),
  /** In UTC. `whole`: one row for all of the time. */
  period: z.enum(usagePeriods).default('whole'),
  /** Only of this user, by e-mail address. */
  user: plainText(inputLimits.name).nullish(),
  /** Only of this project, by name. */
  project: plainText(inputLimits.name).nullish(),
  domain: plainText(inputLimits.name).nullish(),
});
export type UsageReportInput = z.infer<typeof usageReportSchema>;

export interface UsageRow {
  /** Start of the period. */
  readonly period: string;
  /** Id of the session, user or project; name of the domain. */
  readonly id: string;
  /** As people call it; the id of what is no more. */
  readonly name: string;
  /** Sessions that held something in the period. */
  readonly sessions: number;
  /** Amount times seconds by slot, as decimal texts. */
  readonly used: Record<string, string>;
  /**
   * What was measured of kernels that have given back what they held, spread evenly over the time of each: `cpuSeconds`,
   * `readBytes`, `writtenBytes`, of accelerators the time that devices were busy (`cudaSeconds`), and `memoryPeakBytes`, the
   * most that one kernel had. What was not measured is absent; so is all of it from earlier managers.
   */
  readonly measured?: Record<string, number>;
}

export interface UsageReport {
  readonly from: string;
  readonly to: string;
  readonly by: UsageKey;
  readonly period: UsagePeriod;
  /** In order of periods, then names. */
  readonly rows: UsageRow[];
}

/** Of everybody: which kernels held something in some time, project by project. */
export const projectUsageSchema = z.strictObject({
  from: momentSchema,
  /** Not included. */
  to: momentSchema,
  /** Only of these, by id. Absent or empty: of all. */
  projects: z.array(z.uuid()).max(1_000).nullish(),
});
export type ProjectUsageInput = z.infer<typeof projectUsageSchema>;

/** One attempt to run a kernel that held something. Null: no longer known. */
export interface KernelUsage {
  readonly kernelId: string;
  readonly sessionId: string;
  readonly sessionName: string;
  readonly accessKey: string;
  readonly email: string | null;
  readonly fullName: string | null;
  readonly agent: string;
  readonly image: string | null;
  readonly clusterMode: string | null;
  /** What it held. */
  readonly slots: Record<string, string>;
  readonly sharedMemoryBytes: number;
  readonly beganAt: string;
  /** Null: it holds it still. */
  readonly endedAt: string | null;
  readonly status: KernelStatus;
  /** Code of the reason for its status. */
  readonly reason: string | null;
  /** When its session, or it, entered each state (last). */
  readonly history: Record<string, string>;
  /** All that was measured of it, by name. */
  readonly metrics: Metrics;
}

export interface ProjectUsage {
  readonly id: string;
  readonly name: string;
  readonly domain: string;
  /** In order of their beginning. */
  readonly kernels: KernelUsage[];
}
