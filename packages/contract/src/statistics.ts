import { z } from 'zod';
import type { SessionIdleView } from './idle.ts';
import { kernelIdSchema } from './kernel.ts';
import { type Metrics, metricsSchema } from './metric.ts';
import type { SessionDetailsView } from './session.ts';

/** What kernels use: measured by agents, carried by heartbeats, kept by managers for as long as a kernel runs. */

const measured = z.number().min(0).max(Number.MAX_SAFE_INTEGER).nullable();

/** The newest measurement of one kernel. Null: it cannot be measured there. */
export const kernelMeasurementSchema = z.object({
  kernelId: kernelIdSchema,
  /** How long ago it was made, by the agent's clock, in milliseconds. */
  ageMs: z.number().min(0),
  /** CPU time used since the kernel started, in milliseconds. */
  cpuMs: measured,
  /** CPU time per time since the measurement before; 100 is one core. Null for the first one. */
  cpuPercent: measured,
  /** Memory it holds, without what can be read again from files. */
  memoryBytes: measured,
  /** The most that was measured. */
  memoryPeakBytes: measured,
  /** All that is measured. Absent from agents that tell no more than the above. */
  metrics: metricsSchema.optional(),
});
export type KernelMeasurement = z.infer<typeof kernelMeasurementSchema>;

/** What was used at one moment. Null: not known. */
export interface UsePoint {
  readonly at: string;
  /** Since the point before; 100 is one core. */
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
}

/** As the API shows it. */
export interface KernelStatisticsView {
  readonly kernelId: string;
  readonly role: 'main' | 'sub';
  readonly index: number;
  readonly agent: string | null;
  /** Null: nothing has been measured yet, or what was has expired. */
  readonly measuredAt: string | null;
  readonly cpu: {
    readonly usedMs: number | null;
    /** 100 is one core. */
    readonly percent: number | null;
    /** Over at most `windowMs`. */
    readonly averagePercent: number | null;
    /** What the kernel was given: 100 per core. */
    readonly capacityPercent: number | null;
  };
  readonly memory: {
    readonly bytes: number | null;
    readonly peakBytes: number | null;
    readonly averageBytes: number | null;
    readonly capacityBytes: number | null;
  };
  /** All that was measured, by name; see `metricsSchema`. */
  readonly metrics: Metrics;
  /** Over at most `windowMs`, oldest first; empty when the kernel has ended. */
  readonly series: UsePoint[];
  /** Together with the attempts before the present one. */
  readonly overall: {
    /** How often it was started. */
    readonly attempts: number;
    readonly cpuUsedMs: number | null;
    readonly memoryPeakBytes: number | null;
  };
}

export interface SessionStatisticsView {
  readonly sessionId: string;
  readonly name: string;
  /** Averages look back this far. */
  readonly windowMs: number;
  readonly kernels: KernelStatisticsView[];
}

/** Everything that is known of a session at one moment. */
export interface SessionInspection {
  readonly session: SessionDetailsView;
  readonly statistics: SessionStatisticsView;
  /** Null: it does not run, and nothing judges it. */
  readonly idle: SessionIdleView | null;
}
