import type { Metrics } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { inTime } from './in-time.ts';
import { MachineFiles } from './machine-measurements.ts';
import { MetricHistories } from './metric-histories.ts';

export interface MachineMeterOptions {
  /** On the disk that counts. */
  readonly folder: string;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A disk that hangs must not keep the rest unknown for ever. */
const deadlineMs = 2_000;

/** Measures the machine that this agent runs on, every few seconds. */
export class MachineMeter {
  readonly #clock: Clock;
  readonly #files: MachineFiles;
  readonly #histories = new MetricHistories();
  readonly #loop: ReconcileLoop;

  constructor({ folder, intervalMs: tickMs, clock, logger }: MachineMeterOptions) {
    this.#clock = clock;
    this.#files = new MachineFiles(folder);
    this.#loop = new ReconcileLoop({ name: 'measure machine', tickMs, clock, logger, run: () => this.#run() });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    this.#files.close();
  }

  /** Empty before the first measurement. */
  metrics(): Metrics {
    return this.#histories.metrics();
  }

  async #run(): Promise<void> {
    const measurements = await inTime(this.#clock, this.#files.measure(), deadlineMs, 'The machine');
    this.#histories.add(measurements, this.#clock.monotonic());
  }
}
