import type { Metrics } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { inTime } from './in-time.ts';
import { MachineFiles } from './machine-measurements.ts';
import { currentForMs, type Measurements, MetricHistories } from './metric-histories.ts';

export interface MachineMeterOptions {
  /** On the disk that counts. */
  readonly folder: string;
  /** What all accelerators do. Does not throw. */
  readonly devices: () => Promise<Measurements>;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A disk that hangs must not keep the rest unknown for ever. */
const deadlineMs = 2_000;

/** Measures the machine that this agent runs on, every few seconds. */
export class MachineMeter {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #files: MachineFiles;
  readonly #histories = new MetricHistories();
  readonly #loop: ReconcileLoop;
  /** For itself: plugins may take longer than all else. */
  readonly #devicesLoop: ReconcileLoop;

  constructor({ folder, devices, intervalMs: tickMs, clock, logger }: MachineMeterOptions) {
    this.#clock = clock;
    this.#intervalMs = tickMs;
    this.#files = new MachineFiles(folder);
    this.#loop = new ReconcileLoop({ name: 'measure machine', tickMs, clock, logger, run: () => this.#run() });
    const measureDevices = async (): Promise<void> => this.#add(await devices());
    this.#devicesLoop = new ReconcileLoop({ name: 'measure accelerators', tickMs, clock, logger, run: measureDevices });
  }

  start(): void {
    this.#loop.start();
    this.#devicesLoop.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#loop.stop(), this.#devicesLoop.stop()]);
    this.#files.close();
  }

  /** Empty before the first measurement; what can be measured no more is soon left out. */
  metrics(): Metrics {
    return this.#histories.metrics(this.#clock.monotonic() - currentForMs(this.#intervalMs));
  }

  async #run(): Promise<void> {
    this.#add(await inTime(this.#clock, this.#files.measure(), deadlineMs, 'The machine'));
  }

  #add(measurements: Measurements): void {
    this.#histories.add(measurements, this.#clock.monotonic());
  }
}
