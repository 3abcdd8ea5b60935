import type { ApiRouter } from '@backend.ai/contract';
import { AppError, isErrorBody } from '@backend.ai/core';
import { createTRPCUntypedClient, type TRPCClient, type TRPCLink } from '@trpc/client';
import { observable } from '@trpc/server/observable';
import { apiLink } from './api-link.ts';
import type { Transport } from './transport.ts';

export type Rpc = TRPCClient<ApiRouter>;

/** The typed tRPC client of the API. Whatever its calls throw is an AppError with a request id. */
export function createRpc(transport: Transport): Rpc {
  const single = apiLink(transport);
  const client = createTRPCUntypedClient<ApiRouter>({
    links: [(runtime) => (options) => (options.op.type === 'subscription' ? lazy : single)(runtime)(options)],
  });
  const lazy: TRPCLink<ApiRouter> = (runtime) => (options) =>
    observable((observer) => {
      let closed = false;
      let close = (): void => {};
      import('./subscription-link.ts').then(
        ({ subscriptionLink }) => {
          if (closed) return;
          const subscription = subscriptionLink(transport)(runtime)(options).subscribe(observer);
          close = () => subscription.unsubscribe();
        },
        (error) => observer.error(error),
      );
      return () => {
        closed = true;
        close();
      };
    });

  type Call = (path: string, input: unknown, options: Record<string, unknown>) => unknown;
  const calls: Record<string, Call> = {
    query: (path, input, options) => client.query(path, input, options).catch(rethrow),
    mutate: (path, input, options) => client.mutation(path, input, options).catch(rethrow),
    subscribe: (path, input, options) =>
      client.subscription(path, input, options as unknown as Parameters<typeof client.subscription>[2] & object),
  };

  function node(path: readonly string[]): unknown {
    return new Proxy(() => {}, {
      get: (_, key) => (typeof key === 'string' && key !== 'then' ? node([...path, key]) : undefined),
      apply: (_, __, [input, options]: [unknown, Record<string, unknown> | undefined]) => {
        const call = calls[path.at(-1) ?? ''];
        if (!call) throw new TypeError(`${path.join('.')} is not a call: end it with query, mutate or subscribe.`);
        return call(path.slice(0, -1).join('.'), input, options ?? {});
      },
    });
  }
  return node([]) as Rpc;
}

function rethrow(thrown: unknown): never {
  throw toAppError(thrown);
}

/** tRPC wraps what a link throws; ours is the cause, and a server's error stands in `data.error`. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const { cause, data } = (thrown ?? {}) as { cause?: unknown; data?: { error?: unknown } };
  if (cause instanceof AppError) return cause;
  if (isErrorBody(data?.error)) return AppError.fromBody(data.error);
  return AppError.from(thrown);
}
