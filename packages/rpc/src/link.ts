import { AppError } from '@backend.ai/core';
import {
  createTRPCClientProxy,
  type TRPCClient,
  TRPCClientError,
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
}

/** Begins an operation; the returned function gives it up. Never throws. */
export type StartOperation = (operation: Operation, sink: CallSink) => () => void;

/** The typed client over our terminating link. */
export function createApi<TRouter extends AnyTRPCRouter>(start: StartOperation): TRPCClient<TRouter> {
  return createTRPCClientProxy<TRouter>(new AppErrorClient<TRouter>({ links: [rpcLink<TRouter>(start)] }));
}

function rpcLink<TRouter extends AnyTRPCRouter>(start: StartOperation): TRPCLink<TRouter> {
  return () =>
    ({ op }) =>
      observable((observer) => {
        const { path, type, input, signal } = op;
        const fail = (error: AppError): void => observer.error(error as unknown as TRPCClientError<TRouter>);
        const stop = start(
          { path, type, input, deadlineMs: deadlineIn(op.context) },
          {
            onItem: (data) => observer.next({ result: { type: 'data', data } }),
            onResult(data) {
              observer.next({ result: { type: 'data', data } });
              observer.complete();
            },
            onDone: () => observer.complete(),
            onError: fail,
          },
        );
        if (signal?.aborted) stop();
        signal?.addEventListener('abort', stop, { once: true });
        return () => {
          signal?.removeEventListener('abort', stop);
          stop();
        };
      });
}

/** tRPC wraps what a link throws; our callers get the AppError itself. */
class AppErrorClient<TRouter extends AnyTRPCRouter> extends TRPCUntypedClient<TRouter> {
  override query(path: string, input?: unknown, options?: TRPCRequestOptions): Promise<unknown> {
    return super.query(path, input, options).catch(unwrap);
  }

  override mutation(path: string, input?: unknown, options?: TRPCRequestOptions): Promise<unknown> {
    return super.mutation(path, input, options).catch(unwrap);
  }
}

function unwrap(thrown: unknown): never {
  if (thrown instanceof TRPCClientError && thrown.cause instanceof AppError) throw thrown.cause;
  throw thrown;
}

function deadlineIn(context: Readonly<Record<string, unknown>> | undefined): number | null | undefined {
  const value = context?.deadlineMs;
  return typeof value === 'number' || value === null ? value : undefined;
}
