import type { ConfigStore, LiveValues } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import { IdleRepository } from './repositories/idle.ts';
import { KernelStatisticsRepository } from './repositories/kernel-statistics.ts';
import { IdleService } from './services/idle/idle-service.ts';
import { IdleSettingsSource } from './services/idle/idle-settings-source.ts';
import type { SessionActivity } from './services/idle/session-activity.ts';
import { InspectionService } from './services/sessions/inspection-service.ts';
import type { SessionService } from './services/sessions/session-service.ts';
import { KernelStatistics } from './services/statistics/kernel-statistics.ts';
import { MachineStatistics } from './services/statistics/machine-statistics.ts';
import { StatisticsService } from './services/statistics/statistics-service.ts';
import { marginMs } from './services/statistics/usage-series.ts';

export interface MonitoringOptions {
  readonly db: Database;
  readonly liveValues: LiveValues;
  readonly configStore: ConfigStore;
  readonly sessions: SessionService;
  readonly tickMs: number;
  readonly clock: Clock;
  readonly tasks: BackgroundTasks;
  readonly logger: Logger;
}

/** What watches over running sessions: what they use, who uses them, and whether they are of use to anybody. */
export interface Monitoring {
  readonly kernelStatistics: KernelStatistics;
  readonly machineStatistics: MachineStatistics;
  readonly statistics: StatisticsService;
  readonly idle: IdleService;
  readonly inspections: InspectionService;
  readonly idleSettings: IdleSettingsSource;
}

export function createMonitoring(activity: SessionActivity, options: MonitoringOptions): Monitoring {
  const { db, liveValues, configStore, sessions, tickMs, clock, tasks, logger } = options;
  const idleSettings = new IdleSettingsSource({ configStore, tickMs, clock, logger });
  const settings = () => idleSettings.current;
  const windowMs = (): number => settings().windowMs;
  const kernelStatistics = new KernelStatistics({
    liveValues,
    keepMs: () => windowMs() + marginMs,
    clock,
    tasks,
    logger,
  });
  const machineStatistics = new MachineStatistics({ liveValues, tasks, logger });
  const rows = new KernelStatisticsRepository(db);
  const statistics = new StatisticsService({ rows, statistics: kernelStatistics, windowMs });
  const idle = new IdleService({
    ...{ rows: new IdleRepository(db), statistics: kernelStatistics, activity, settings, clock },
  });
  const inspections = new InspectionService({ sessions, statistics, idle });
  return { kernelStatistics, machineStatistics, statistics, idle, inspections, idleSettings };
}
