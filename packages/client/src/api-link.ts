import type { ApiRouter } from '@backend.ai/contract';
import { AppError, backoffMs, hasCode } from '@backend.ai/core';
import type { Operation, TRPCLink } from '@trpc/client';
import { observable } from '@trpc/server/observable';
import superjson from 'superjson';
import { readText, type Transport } from './transport.ts';

/**
 * tRPC over HTTP, one request per operation: queries by GET, mutations by POST. The stock link touches `FormData` and
 * `Blob`, which makes Node load its whole fetch implementation even when another one is used.
 */
export function apiLink(transport: Transport): TRPCLink<ApiRouter> {
  return () =>
    ({ op }) =>
      observable((observer) => {
        const abort = new AbortController();
        const signal = op.signal ? AbortSignal.any([op.signal, abort.signal]) : abort.signal;
        callWithRetries(transport, op, signal).then(
          (data) => {
            observer.next({ result: { type: 'data', data } });
            observer.complete();
          },
          // The outer proxy hands the AppError on; tRPC's wrapper carries it as its cause.
          (error) => observer.error(error),
        );
        return () => abort.abort();
      });
}

/** Above this a query's input travels in a body: servers and proxies limit the request line. */
const maxUrlInput = 4096;

/** Queries change nothing, so a lost connection is bridged; what changes something is left to the caller. */
const queryRetries = 2;

async function callWithRetries(transport: Transport, op: Operation, signal: AbortSignal): Promise<unknown> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call(transport, op, signal);
    } catch (thrown) {
      if (op.type !== 'query' || attempt >= queryRetries || !hasCode(thrown, 'connection-lost')) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, backoffMs(attempt, { initialMs: 50, maxMs: 500 })));
    }
  }
}

async function call(transport: Transport, op: Operation, signal: AbortSignal): Promise<unknown> {
  const input = op.input === undefined ? undefined : JSON.stringify(superjson.serialize(op.input));
  const path = `/rpc/${op.path}`;
  const byUrl = op.type === 'query' && encodeURIComponent(input ?? '').length <= maxUrlInput;
  const common = { signal, requestId: requestIdOf(op) };
  const reply = await transport.send(
    byUrl
      ? {
          ...common,
          method: 'GET',
          target: input === undefined ? path : `${path}?input=${encodeURIComponent(input)}`,
        }
      : { ...common, method: 'POST', target: path, contentType: 'application/json', ...(input ? { body: input } : {}) },
  );
  const text = await readText(reply, transport.endpoint);
  try {
    const { result } = JSON.parse(text) as { result: { data?: Parameters<typeof superjson.deserialize>[0] } };
    return result.data === undefined ? undefined : superjson.deserialize(result.data);
  } catch (cause) {
    throw new AppError('internal', 'The server answered in a form this client does not understand.', {
      hint: 'Check that the URL is that of a Backend.AI server of a fitting version.',
      requestId: reply.requestId,
      detail: text.slice(0, 2000),
      cause,
    });
  }
}

/** A caller may fix the id of one operation: `rpc.session.get.query(input, { context: { requestId } })`. */
function requestIdOf(op: Operation): string | undefined {
  const { requestId } = op.context;
  return typeof requestId === 'string' ? requestId : undefined;
}
