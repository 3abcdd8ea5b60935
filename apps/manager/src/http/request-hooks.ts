import type { UserActor } from '@backend.ai/contract';
import { AppError, ownerAccessKeyHeader } from '@backend.ai/core';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type AuthenticationOptions, authenticate, checkApiVersion } from './authentication.ts';
import { readParams } from './parameters.ts';
import { asAppError, isDefect, toProblem } from './problems.ts';
import { isOverLimit, rateHeaders } from './rate-limit.ts';
import { edgeOf, type RequestEdge, setHeaders } from './request-edge.ts';
import type { RouteContext } from './server.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `signed` when absent. `rpc` keeps a refusal for the protocol to answer. */
    access?: 'open' | 'signed' | 'rpc';
    /** How many calls a request stands for, at least one; one when absent. */
    callsOf?: (request: FastifyRequest) => number;
  }
}

export interface AdmissionOptions extends AuthenticationOptions {
  isClosing(): boolean;
}

/** Who is it, may they call so often, and in which version: before the body is read. */
export function admitRequests(app: FastifyInstance, context: RouteContext, options: AdmissionOptions): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const edge = edgeOf(request);
    edge.route = request.is404 ? undefined : request.routeOptions.url;
    edge.remote = request.ip;
    admit(edge, request, context, options).then(
      () => edge.run(() => done()),
      (error: unknown) => {
        if (accessOf(request) === 'rpc' && error instanceof AppError) edge.refusal = error;
        edge.run(() => done(edge.refusal ? undefined : (error as Error)));
      },
    );
  });
  // Bodies are read by listeners of the socket, which run outside any request.
  app.addHook('preValidation', (request, _reply, done) => edgeOf(request).run(done));
  app.addHook('preHandler', (request, _reply, done) => {
    if (accessOf(request) !== 'signed') return done();
    actForOwner(request, context).then(() => done(), done);
  });
  app.setErrorHandler((error, request, reply) => answerError(context, error, request, reply));
}

function accessOf(request: FastifyRequest): 'open' | 'signed' | 'rpc' {
  return request.is404 ? 'open' : (request.routeOptions.config.access ?? 'signed');
}

async function admit(
  edge: RequestEdge,
  request: FastifyRequest,
  context: RouteContext,
  options: AdmissionOptions,
): Promise<void> {
  if (options.isClosing()) {
    edge.response.setHeader('Connection', 'close');
    throw new AppError('shutting-down', 'The server is shutting down.');
  }
  if (request.headers.expect !== undefined && request.headers.expect.toLowerCase() !== '100-continue')
    throw new AppError('invalid-input', 'The expectation in the Expect header cannot be met.');
  checkApiVersion(request.headers);
  if (accessOf(request) !== 'open') {
    const { actor } = await authenticate(
      { method: request.method, target: edge.target, headers: request.headers },
      context.keypairs,
      context.clock.now(),
      options,
    );
    edge.actor = actor;
    edge.context = { ...edge.context, actor: actor.accessKey };
    await edge.run(() => countCalls(edge, actor.accessKey, callsOf(request), context));
    // Everything after this happens in the name, and with the rights, of the owner of that key pair.
    const owner = request.headers[ownerAccessKeyHeader];
    if (owner !== undefined) edge.actor = await edge.run(() => context.keypairs.actFor(actor, String(owner)));
  }
  edge.admitBody();
}

/** The parameter of REST calls that means the same as the header. */
async function actForOwner(request: FastifyRequest, { keypairs }: RouteContext): Promise<void> {
  const edge = edgeOf(request);
  const params = readParams(request);
  const owner = params.text('owner_access_key');
  params.check();
  if (owner === undefined || edge.actor.kind !== 'user' || edge.actor.by) return;
  edge.actor = await edge.run(() => keypairs.actFor(edge.actor as UserActor, owner));
}

function callsOf(request: FastifyRequest): number {
  return request.is404 ? 1 : (request.routeOptions.config.callsOf?.(request) ?? 1);
}

async function countCalls(edge: RequestEdge, accessKey: string, calls: number, context: RouteContext): Promise<void> {
  const count = await context.keypairs.countCalls(accessKey, calls);
  setHeaders(edge.response, rateHeaders(count));
  if (isOverLimit(count)) {
    throw new AppError('rate-limited', 'You have reached your API query rate limit.', { data: { limit: count.limit } });
  }
}

/** The answer to anything thrown below a route. */
export function answerError(
  context: RouteContext,
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const edge = edgeOf(request);
  const error = !(thrown instanceof AppError) && edge.aborted ? edge.aborted : asAppError(thrown);
  const { status, body } = toProblem(error, edge.requestId);
  if (isDefect(error)) edge.run(() => context.logger.error('request failed', { code: error.code, error }));
  // Fastify wants to close when a body was refused; then the answer gets lost while the client still sends. The rest
  // of the body is drained instead, for a limited time.
  reply.removeHeader('connection');
  return reply
    .code(status)
    .header('content-type', 'application/problem+json')
    .send(Buffer.from(JSON.stringify(body)));
}
