import type { Duplex } from 'node:stream';
import { type CallContext, startServiceSchema, terminalSchema } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { encodeTerminalFrame, type FrameToTerminal, TerminalFrames } from '@backend.ai/rpc';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { RawData, WebSocket } from 'ws';
import { z } from 'zod';
import { invalidFields, type Params, readParams, sendJson, sessionOf } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';
import { acceptWebSocket, closeWebSocket, requireUpgrade, type SetTimer } from '../web-sockets.ts';
import { serveRun } from './run-stream.ts';

/** WebSockets into a session. Bytes flow no faster than the slower side takes them. */
export function registerStreamRoutes(app: FastifyInstance, context: RouteContext): void {
  const { streams, clock } = context;
  const setTimer: SetTimer = (ms, callback) => clock.setTimer(ms, callback);

  app.get('/stream/session/:session/execute', async (request, reply) => {
    const session = sessionOf(request);
    requireUpgrade(request);
    const edge = edgeOf(request);
    await context.services.session.get({ session }, edge.callContext);
    const farewell = JSON.stringify({ status: 'server-restarting', msg: 'The server is shutting down.' });
    const socket = acceptWebSocket(request, reply, setTimer, farewell);
    await edge.run(() => serveRun(socket, session, edge, context));
  });

  app.get('/stream/session/:session/pty', async (request, reply) => {
    const session = sessionOf(request);
    requireUpgrade(request);
    const params = readParams(request);
    const checked = terminalSchema.safeParse({
      name: params.text('terminal'),
      rows: params.integer('rows'),
      cols: params.integer('cols'),
      term: params.text('term'),
    });
    params.check();
    if (!checked.success)
      throw invalidFields(
        Object.fromEntries(checked.error.issues.map((issue) => [issue.path.join('.'), issue.message])),
      );
    const edge = edgeOf(request);
    const stream = await streams.open(session, { kind: 'terminal', ...checked.data }, edge.callContext);
    const socket = accepted(stream, () => acceptWebSocket(request, reply, setTimer));
    edge.run(() => serveTerminal(socket, stream, setTimer));
  });

  app.get('/stream/session/:session/apps', async (request, reply) => {
    const session = sessionOf(request);
    const found = await context.services.session.services({ session }, edgeOf(request).callContext);
    const apps = found.map(({ name, protocol, ports, urlTemplate, allowedArguments, allowedEnvs }) => ({
      ...{ name, protocol, ports },
      ...(urlTemplate === undefined ? {} : { url_template: urlTemplate }),
      ...(allowedArguments === undefined ? {} : { allowed_arguments: allowedArguments }),
      ...(allowedEnvs === undefined ? {} : { allowed_envs: allowedEnvs }),
    }));
    return sendJson(reply, 200, apps);
  });

  app.post('/session/:session/shutdown-service', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    const service = params.requiredText('service_name', 'service');
    params.check();
    await context.services.session.stopService({ session, service }, edgeOf(request).callContext);
    return reply.code(204).send();
  });

  for (const kind of ['tcpproxy', 'httpproxy'])
    app.get(`/stream/session/:session/${kind}`, async (request, reply) => {
      const session = sessionOf(request);
      requireUpgrade(request);
      const edge = edgeOf(request);
      const port = await startedPort(session, readServiceRequest(request), context, edge.callContext);
      const stream = await streams.open(session, { kind: 'port', port }, edge.callContext);
      const socket = accepted(stream, () => acceptWebSocket(request, reply, setTimer));
      edge.run(() => servePort(socket, stream, setTimer));
    });
}

interface ServiceRequest {
  readonly service: string;
  readonly port: number | undefined;
  readonly envs: Record<string, string>;
  readonly arguments: Record<string, string | string[] | null>;
}

function readServiceRequest(request: FastifyRequest): ServiceRequest {
  const params = readParams(request);
  const read = {
    service: params.requiredText('app', 'service'),
    port: params.integer('port'),
    envs: jsonObject(params, 'envs') as Record<string, string>,
    arguments: jsonObject(params, 'arguments') as ServiceRequest['arguments'],
  };
  params.check();
  const { port, ...rest } = read;
  const checked = startServiceSchema.safeParse(rest);
  if (checked.success) return { ...checked.data, port };
  throw invalidFields(
    Object.fromEntries(checked.error.issues.map((issue) => [issue.path.join('.') || 'app', issue.message])),
  );
}

function jsonObject(params: Params, name: string): unknown {
  const text = params.text(name);
  if (text === undefined) return {};
  try {
    return JSON.parse(text);
  } catch {
    params.problem(name, 'is not JSON');
    return {};
  }
}

/**
 * The port of a service that listens by now. A number is a port on which a program of the user listens by itself.
 * @throws AppError `object-not-found`, `state-conflict` when it does not start
 */
async function startedPort(
  session: string,
  { service, port, ...how }: ServiceRequest,
  { services }: RouteContext,
  ctx: CallContext,
): Promise<number> {
  if (/^\d{1,5}$/.test(service) && Number(service) > 0 && Number(service) < 65_536) return Number(service);
  const started = await services.session.startService({ session, service, ...how }, ctx);
  if (started.status === 'failed') {
    throw new AppError('service-failed', `The service "${service}" did not start: ${started.error ?? ''}`, {
      data: { service, error: started.error ?? null },
    });
  }
  const chosen = port ?? started.ports[0];
  if (chosen !== undefined && started.ports.includes(chosen)) return chosen;
  throw new AppError('invalid-input', `The service "${service}" has no port ${port}.`, {
    data: { ports: started.ports },
  });
}

function servePort(socket: WebSocket, stream: Duplex, setTimer: SetTimer): void {
  let ended = false;
  stream.once('end', () => {
    ended = true;
  });
  connect(socket, stream, setTimer, {
    toStream: (data) => (Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as Buffer)),
    toSocket: (chunk, send) => send(chunk),
    farewell: () => (ended ? '' : undefined),
  });
}

/** A stream that nobody took over is closed. */
function accepted(stream: Duplex, accept: () => WebSocket): WebSocket {
  stream.on('error', () => {});
  try {
    return accept();
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

const messageSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('stdin'), chars: z.string() }),
  z.object({
    type: z.literal('resize'),
    rows: z.number().int().min(1).max(9999),
    cols: z.number().int().min(1).max(9999),
  }),
  z.object({ type: z.literal('ping') }),
  z.object({ type: z.literal('restart') }),
]);

function serveTerminal(socket: WebSocket, stream: Duplex, setTimer: SetTimer): void {
  const frames = new TerminalFrames();
  let exitCode: number | undefined;
  connect(socket, stream, setTimer, {
    toStream(data) {
      const message = parseMessage(data);
      if (message) return message.type === 'ping' ? undefined : encodeTerminalFrame(frameOf(message));
      throw new AppError('malformed-body', 'The message is none of a terminal.');
    },
    toSocket(chunk, send) {
      const found = frames.push(chunk);
      if (!found) throw new AppError('connection-lost', 'The terminal speaks another language.');
      for (const frame of found) {
        if (frame.kind === 'output') send(JSON.stringify({ type: 'out', data: frame.data.toString('base64') }));
        else exitCode = frame.exitCode;
      }
    },
    farewell: () => (exitCode === undefined ? undefined : JSON.stringify({ exitCode })),
  });
}

function parseMessage(data: RawData): z.infer<typeof messageSchema> | undefined {
  try {
    return messageSchema.parse(JSON.parse(String(data)));
  } catch {
    return undefined;
  }
}

function frameOf(message: Exclude<z.infer<typeof messageSchema>, { type: 'ping' }>): FrameToTerminal {
  switch (message.type) {
    case 'stdin':
      return { kind: 'input', data: Buffer.from(message.chars, 'base64') };
    case 'resize':
      return { kind: 'size', rows: message.rows, cols: message.cols };
    case 'restart':
      return { kind: 'restart' };
  }
}

interface Translation {
  /** Undefined: nothing is to be passed on. */
  toStream(data: RawData): Buffer | undefined;
  toSocket(chunk: Buffer, send: (message: string | Buffer) => void): void;
  /** What the closing says when the stream came to its own end; undefined when it broke off. */
  farewell(): string | undefined;
}

/** Bytes that wait in a WebSocket before its stream has to. */
const highWater = 1 << 20;

/** Joins both until either ends. */
function connect(socket: WebSocket, stream: Duplex, setTimer: SetTimer, translation: Translation): void {
  const fail = (error: unknown): void => {
    const { code, message } = AppError.from(error);
    closeWebSocket(socket, code === 'malformed-body' ? 1007 : 1011, message, setTimer);
    stream.destroy();
  };
  const send = (message: string | Buffer): void => {
    socket.send(message, () => {
      if (stream.isPaused() && socket.bufferedAmount < highWater) stream.resume();
    });
    if (socket.bufferedAmount > highWater) stream.pause();
  };
  socket.on('message', (data) => {
    try {
      const bytes = translation.toStream(data);
      if (!bytes || stream.write(bytes)) return;
      socket.pause();
      stream.once('drain', () => socket.resume());
    } catch (error) {
      fail(error);
    }
  });
  socket.once('close', () => stream.destroy());
  stream.on('data', (chunk: Buffer) => {
    try {
      translation.toSocket(chunk, send);
    } catch (error) {
      fail(error);
    }
  });
  stream.once('close', () => {
    const words = translation.farewell();
    closeWebSocket(socket, words === undefined ? 1011 : 1000, words ?? 'The session or its agent went away.', setTimer);
  });
  // The other side has nothing more to say; what it is told is lost from now on.
  stream.once('end', () => stream.destroy());
}
