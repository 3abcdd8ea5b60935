import { AppError, type Clock, systemClock } from '@backend.ai/core';
import { ensureRequestId, type Logger } from '@backend.ai/telemetry';

/** A service that has started. */
export interface RunningService {
  /** Where it is reached, by what is reached there: `{ api: 'http://…' }`. */
  readonly addresses: Readonly<Record<string, string>>;
  /** Rejects when the service cannot go on by itself; never resolves. Absent: it always can. */
  readonly failure?: Promise<never>;
  /** Stops accepting, lets running work end, closes. Safe after a failure. */
  stop(): Promise<void>;
}

export interface RunServiceOptions {
  readonly start: () => Promise<RunningService>;
  /** The first signal that asks for the end; see `firstSignal`. */
  readonly signal: Promise<NodeJS.Signals>;
  /** Stopping may take this long, in milliseconds; then the process ends in the middle of it. */
  readonly stopDeadlineMs: number;
  readonly logger: Logger;
  readonly clock?: Clock;
  readonly onReady?: (service: RunningService) => void;
  readonly onStopping?: (signal: NodeJS.Signals) => void;
}

/**
 * Starts a service, waits for a signal, drains it. A signal during the start ends it as soon as it has started. All of
 * it belongs to one request: the caller's, or one of its own.
 * @returns the exit code: 0 after an orderly end, 1 when draining failed or took too long
 * @throws what kept it from starting, or from going on
 */
export async function runService(options: RunServiceOptions): Promise<number> {
  return await ensureRequestId(() => run(options));
}

async function run(options: RunServiceOptions): Promise<number> {
  const { logger, signal, clock = systemClock } = options;
  const starting = options.start();
  const early = await Promise.race([starting.then(() => undefined), signal]);
  if (early !== undefined) options.onStopping?.(early);
  const ended = early === undefined ? undefined : within(options.stopDeadlineMs, starting, clock);
  const service = await (ended ?? starting);
  if (service === undefined) {
    logger.error('service did not finish starting in time to be stopped', { deadline_ms: options.stopDeadlineMs });
    return 1;
  }
  let failure: unknown;
  if (early === undefined) {
    options.onReady?.(service);
    logger.info('service is ready', { addresses: service.addresses });
    try {
      const name = await Promise.race([signal, ...(service.failure ? [service.failure] : [])]);
      options.onStopping?.(name);
      logger.info('service is stopping', { signal: name });
    } catch (error) {
      failure = error;
      logger.error('service cannot go on', { error });
    }
  }
  const code = await drain(service, options);
  if (failure !== undefined) throw failure;
  return code;
}

async function drain(
  service: RunningService,
  { stopDeadlineMs, logger, clock = systemClock }: RunServiceOptions,
): Promise<number> {
  try {
    const stopped = await within(
      stopDeadlineMs,
      service.stop().then(() => true),
      clock,
    );
    if (stopped) {
      logger.info('service has stopped');
      return 0;
    }
    logger.error('service did not stop in time', { deadline_ms: stopDeadlineMs });
  } catch (error) {
    logger.error('service did not stop cleanly', { error });
  }
  return 1;
}

/** Undefined when the time is over first. */
async function within<T>(ms: number, work: Promise<T>, clock: Clock): Promise<T | undefined> {
  let cancel: (() => void) | undefined;
  const late = new Promise<undefined>((resolve) => {
    cancel = clock.setTimer(ms, () => resolve(undefined));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel?.();
  }
}

/** Says in the log why the process ends, before it does: nothing that nobody caught may go on half done. */
export function endOnUncaught(logger: Logger): void {
  const end = (error: unknown): void => {
    ensureRequestId(() =>
      logger.error('uncaught error ends the service', {
        error: error instanceof Error ? error : new AppError('internal', String(error)),
      }),
    );
    process.exit(1);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}
