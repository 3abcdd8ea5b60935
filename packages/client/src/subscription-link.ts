import type { ApiRouter } from '@backend.ai/contract';
import { AppError, isErrorBody } from '@backend.ai/core';
import { httpSubscriptionLink, type TRPCLink } from '@trpc/client';
import { observable } from '@trpc/server/observable';
import { EventSource } from 'eventsource';
import superjson from 'superjson';
import { errorOfResponse } from './response-error.ts';
import { readText, type Transport } from './transport.ts';

/**
 * Subscriptions as server-sent events, signed anew at each reconnection. A lost connection is opened again without
 * end; an answer that refuses ends the subscription with its error. Loaded only when a subscription is opened.
 */
export function subscriptionLink(transport: Transport): TRPCLink<ApiRouter> {
  return (runtime) => (options) => {
    let refusal: AppError | undefined;
    const stock = httpSubscriptionLink<ApiRouter, typeof EventSource>({
      url: `${transport.endpoint}/rpc`,
      transformer: superjson,
      EventSource,
      eventSourceOptions: ({ op }) => ({
        fetch: async (url, init) => {
          const { requestId } = op.context;
          const reply = await transport.sendRaw({
            method: 'GET',
            target: String(url).slice(transport.endpoint.length),
            headers: init.headers as Record<string, string>,
            signal: init.signal as AbortSignal,
            ...(typeof requestId === 'string' ? { requestId } : {}),
          });
          const { response } = reply;
          if (!response.ok) {
            refusal = errorOfResponse(response.status, await readText(reply, transport.endpoint), reply.requestId);
          }
          return {
            status: response.status,
            headers: response.headers as Headers,
            body: response.ok ? toReadable(response.body) : null,
            url: String(url),
            redirected: false,
          };
        },
      }),
    })(runtime)(options);
    return observable((observer) => {
      const subscription = stock.subscribe({
        next: (value) => {
          const failure = failureIn(value.result);
          if (failure === undefined) observer.next(value);
          else {
            observer.error(failure as unknown as Parameters<typeof observer.error>[0]);
            subscription.unsubscribe();
          }
        },
        error: (error) => observer.error((refusal ?? error) as typeof error),
        complete: () => observer.complete(),
      });
      return () => subscription.unsubscribe();
    });
  };
}

/**
 * The stock link subscribes again for ever after any error of the class 5xx, which is what every error of ours looks
 * like to it. Ours say by category whether another try makes sense.
 */
function failureIn(result: object): AppError | undefined {
  if (!('state' in result) || !('error' in result) || result.error === null) return undefined;
  const { data } = result.error as { data?: { error?: unknown } };
  if (!isErrorBody(data?.error)) return undefined;
  const error = AppError.fromBody(data.error);
  return error.category === 'retry' ? undefined : error;
}

function toReadable(body: AsyncIterable<Uint8Array> | null): ReadableStream<Uint8Array> | null {
  if (body === null) return null;
  if ('getReader' in body) return body as unknown as ReadableStream<Uint8Array>;
  return ReadableStream.from(body) as ReadableStream<Uint8Array>;
}
