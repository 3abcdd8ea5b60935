import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { checkAccessLevels, createApiRouter, procedureMetas, toAppError } from '@backend.ai/contract';
import { AppError, type ErrorBody, isErrorBody } from '@backend.ai/core';
import { fetchRequestHandler } from '@trpc/server/adapters/fetch';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { boundStream } from './bound-stream.ts';
import { pathOf, sendJsonText } from './parameters.ts';
import { isDefect, problemStatus } from './problems.ts';
import { edgeOf, type RequestEdge } from './request-edge.ts';
import type { RouteContext } from './server.ts';

/**
 * The typed API at `/rpc/<procedure>`: single calls, batches, and subscriptions as server-sent events. All calls of one
 * HTTP request share its request id. Queries with long input come as POST.
 */
const endpoint = '/rpc';
const maxBatchSize = 100;
const maxBodyBytes = 16 * 1024 * 1024;

export function registerRpc(app: FastifyInstance, context: RouteContext): void {
  const router = createApiRouter(context.services);
  checkAccessLevels(router);
  const metas = procedureMetas(router);

  const pathsOf = (request: FastifyRequest) => decodePath(pathOf(request.url).slice(endpoint.length + 1)).split(',');

  app.route({
    method: ['GET', 'POST'],
    url: `${endpoint}/*`,
    bodyLimit: maxBodyBytes,
    // A larger batch is refused as a whole.
    config: { access: 'rpc', callsOf: (request) => Math.min(pathsOf(request).length, maxBatchSize) },
    onRequest: (request, _reply, done) => {
      const edge = edgeOf(request);
      const procedures = pathsOf(request).map((path) => metas.get(path));
      if (edge.refusal?.code === 'auth-missing' && procedures.every((meta) => meta?.access === 'open')) {
        edge.refusal = undefined;
        edge.admitBody();
      }
      edge.endsOnShutdown = procedures.some((meta) => meta?.type === 'subscription');
      // Event streams begin with status 200 and retry what fails afterwards: a refusal must come before.
      const refusedStream = edge.refusal !== undefined && edge.endsOnShutdown;
      done(refusedStream ? edge.refusal : undefined);
    },
    // Nobody reads the body of a refused call.
    preParsing: (request, _reply, payload, done) =>
      edgeOf(request).refusal === undefined ? done(null, payload) : done(null, withoutBody(request)),
    handler: async (request, reply) => {
      const edge = edgeOf(request);
      const response = await fetchRequestHandler({
        endpoint,
        router,
        req: toFetchRequest(request, edge),
        allowMethodOverride: true,
        maxBatchSize,
        createContext: () => {
          if (edge.refusal) throw withRequestId(edge.refusal, edge);
          return edge.callContext;
        },
        onError: ({ error, path }) => {
          const known = toAppError(error);
          if (isDefect(known))
            edge.run(() => context.logger.error('call failed', { procedure: path, code: known.code, error: known }));
        },
        responseMeta: ({ data, eagerGeneration }) => (eagerGeneration ? {} : { status: statusOf(data) }),
      });
      return await send(reply, response, edge);
    },
  });
}

function withoutBody(request: FastifyRequest): Readable {
  request.raw.resume();
  delete request.raw.headers['content-length'];
  return Readable.from([]);
}

function toFetchRequest(request: FastifyRequest, edge: RequestEdge): Request {
  const headers = new Headers();
  // tRPC reads no others. An empty GET is signed with text/plain, which tRPC would refuse.
  for (const name of ['accept', 'trpc-accept', 'last-event-id']) {
    const value = request.headers[name];
    if (typeof value === 'string') headers.set(name, value);
  }
  headers.set('content-type', 'application/json');
  const body = Buffer.isBuffer(request.body) && request.body.length > 0 ? request.body : undefined;
  return new Request(new URL(request.url, 'http://manager'), {
    method: request.method,
    headers,
    signal: edge.signal,
    ...(request.method === 'POST' && body ? { body: new Uint8Array(body) } : {}),
  });
}

/** One status when all calls agree; the mixed answers of a batch are 207. */
function statusOf(data: readonly unknown[]): number {
  const statuses = new Set(data.map((answer) => statusOfOne(answer)));
  const [only] = statuses;
  return statuses.size === 1 && only !== undefined ? only : 207;
}

function statusOfOne(answer: unknown): number {
  const error = (answer as { error?: { data?: { error?: ErrorBody } } }).error;
  if (!error) return 200;
  return isErrorBody(error.data?.error) ? problemStatus(error.data.error.code) : 500;
}

/** tRPC formats a refusal without a context, so the id must be in the error itself. */
function withRequestId(error: AppError, edge: RequestEdge): AppError {
  return new AppError(error.code, error.message, {
    hint: error.hint,
    data: error.data,
    detail: error.detail,
    cause: error.cause,
    requestId: edge.requestId,
  });
}

async function send(reply: FastifyReply, response: Response, edge: RequestEdge): Promise<FastifyReply> {
  reply.code(response.status);
  response.headers.forEach((value, name) => {
    // Node chooses the framing.
    if (name !== 'transfer-encoding' && name !== 'connection') reply.header(name, value);
  });
  if (!response.body) return reply.send();
  // All but event streams is whole already.
  if (response.headers.get('content-type') === 'application/json') return sendJsonText(reply, await response.text());
  return reply.send(boundStream(edge, Readable.fromWeb(response.body as ReadableStream<Uint8Array>)));
}

function decodePath(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
