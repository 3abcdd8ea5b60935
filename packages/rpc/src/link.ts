import { AppError } from '@backend.ai/core';
import {
  createTRPCClientProxy,
  type TRPCClient,
  type TRPCClientError,
  type TRPCLink,
  type TRPCRequestOptions,
  TRPCUntypedClient,
} from '@trpc/client';
import type { AnyTRPCRouter } from '@trpc/server';
import { observable } from '@trpc/server/observable';
import type { CallSink } from './calls.ts';
import type { OperationType } from './frames.ts';

export interface Operation {
  readonly path: string;
  readonly type: OperationType;
  readonly input: unknown;
  readonly deadlineMs: number | null | undefined;
  /** Of the term in which this was decided. */
  readonly epoch: number | undefined;
}

/** Begins an operation; the returned function gives it up. Never throws. */
export type StartOperation = (operation: Operation, sink: CallSink) => () => void;

/** The typed client over our terminating link. */
export function createApi<TRouter extends AnyTRPCRouter>(start: StartOperation): TRPCClient<TRouter> {
  return createTRPCClientProxy<TRouter>(new RpcUntypedClient<TRouter>(start));
}

/** Subscriptions go through tRPC's chain of links, which serves callbacks as well as async iteration. */
function rpcLink<TRouter extends AnyTRPCRouter>(start: StartOperation): TRPCLink<TRouter> {
  return () =>
    ({ op }) =>
      observable((observer) => {
        const { path, type, input, signal } = op;
        const stop = start(
          { path, type, input, deadlineMs: deadlineIn(op.context), epoch: epochIn(op.context) },
          {
            onItem: (data) => observer.next({ result: { type: 'data', data } }),
            onResult: () => observer.complete(),
            onDone: () => observer.complete(),
            // Our callers get the AppError itself.
            onError: (error) => observer.error(error as unknown as TRPCClientError<TRouter>),
          },
        );
        const onAbort = (): void => stop();
        signal?.addEventListener('abort', onAbort, { once: true });
        return () => {
          signal?.removeEventListener('abort', onAbort);
          stop();
        };
      });
}

/**
 * Queries and mutations skip the chain: it costs as much as the rest of a call (three observables and an abort with
 * its DOMException for each), and wraps what a link throws, while our callers get the AppError itself.
 */
class RpcUntypedClient<TRouter extends AnyTRPCRouter> extends TRPCUntypedClient<TRouter> {
  readonly #start: StartOperation;

  constructor(start: StartOperation) {
    super({ links: [rpcLink<TRouter>(start)] });
    this.#start = start;
  }

  override query(path: string, input?: unknown, options?: TRPCRequestOptions): Promise<unknown> {
    return this.#call('query', path, input, options);
  }

  override mutation(path: string, input?: unknown, options?: TRPCRequestOptions): Promise<unknown> {
    return this.#call('mutation', path, input, options);
  }

  #call(type: OperationType, path: string, input: unknown, options?: TRPCRequestOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const signal = options?.signal;
      if (signal?.aborted) {
        reject(new AppError('cancelled', `${path} was cancelled before it began.`));
        return;
      }
      const settled = (): void => signal?.removeEventListener('abort', onAbort);
      const stop = this.#start(
        { path, type, input, deadlineMs: deadlineIn(options?.context), epoch: epochIn(options?.context) },
        {
          onItem: ignore,
          onResult(value) {
            if (signal) settled();
            resolve(value);
          },
          onDone: ignore,
          onError(error) {
            if (signal) settled();
            reject(error);
          },
        },
      );
      const onAbort = (): void => stop();
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

const ignore = (): void => {};

function deadlineIn(context: Readonly<Record<string, unknown>> | undefined): number | null | undefined {
  const value = context?.deadlineMs;
  return typeof value === 'number' || value === null ? value : undefined;
}

function epochIn(context: Readonly<Record<string, unknown>> | undefined): number | undefined {
  const value = context?.epoch;
  return typeof value === 'number' ? value : undefined;
}
