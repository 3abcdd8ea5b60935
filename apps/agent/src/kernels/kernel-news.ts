import { type KeptLog, type KernelSpec, keptLogBytes, type Metrics } from '@backend.ai/contract';
import type { Clock, RequestId } from '@backend.ai/core';
import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { KernelEnd } from '../backends/backend.ts';
import { keepLog } from '../files/kept-log.ts';
import type { Kernel } from './kernel.ts';
import type { UnnumberedEvent } from './outbox.ts';

/** An event without what is the same for all events of a kernel. */
type News = UnnumberedEvent extends infer Event
  ? Event extends unknown
    ? Omit<Event, 'at' | 'requestId' | 'kernelId' | 'sessionId'>
    : never
  : never;

type Subject = Pick<KernelSpec, 'kernelId' | 'sessionId'>;

/** Told of a kernel with its end. */
export interface Left {
  readonly log?: string | undefined;
  readonly console?: KeptLog | undefined;
  readonly metrics?: Metrics | undefined;
}

export interface KernelNewsOptions {
  readonly report: (event: UnnumberedEvent) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What is told of kernels, each time in the name of the request that caused it. */
export class KernelNews {
  readonly #options: KernelNewsOptions;

  constructor(options: KernelNewsOptions) {
    this.#options = options;
  }

  /** In the name of the order that the kernel began with. */
  tell(kernel: Kernel, news: News): void {
    this.send(kernel.spec, kernel.requestId, news);
  }

  end(subject: Subject, requestId: RequestId, { exitCode, reason }: KernelEnd, left: Left = {}): void {
    const { log, console, metrics } = left;
    this.send(subject, requestId, {
      ...{ type: 'kernel-terminated', exitCode, reason },
      ...(log ? { log } : {}),
      ...(console ? { console } : {}),
      ...(metrics ? { metrics } : {}),
    });
  }

  send({ kernelId, sessionId }: Subject, requestId: RequestId, news: News): void {
    const at = new Date(this.#options.clock.now()).toISOString();
    const event = { ...news, at, requestId, kernelId, sessionId } as UnnumberedEvent;
    runWithRequest({ requestId }, () => this.#options.report(event));
  }

  /** Best effort: what is left of a log must not keep a kernel from ending. */
  async endOfLog({ spec, plan, handle }: Kernel): Promise<string | undefined> {
    try {
      // Bytes that are no text become longer; the event has its limit.
      return (await (handle ?? plan.launched())?.logs(keptLogBytes))?.slice(-keptLogBytes);
    } catch (error) {
      this.#options.logger.warn('log of an ended kernel could not be read', { kernel_id: spec.kernelId, error });
      return undefined;
    }
  }

  /** As `endOfLog`, for those who follow it. */
  keptConsole({ spec, handle }: Kernel): KeptLog | undefined {
    try {
      return handle && keepLog(handle.console);
    } catch (error) {
      this.#options.logger.warn('log of an ended kernel could not be kept', { kernel_id: spec.kernelId, error });
      return undefined;
    }
  }
}
