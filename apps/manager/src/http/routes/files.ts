import { Readable } from 'node:stream';
import { AppError, hasCode, newRequestId } from '@backend.ai/core';
import multipart from '@fastify/multipart';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { boundStream } from '../bound-stream.ts';
import { homePath, invalidFields, readParams, sendJson, sessionOf } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';

/** Limits of the official forms; `PUT` and `GET …/file` and `…/archive` have none. */
const maxFiles = 20;
const maxFileBytes = 1024 * 1024;
const maxDownloads = 5;
const streamHint = 'Use PUT or GET /session/NAME/file?path=… for larger ones.';

export function registerFileRoutes(app: FastifyInstance, context: RouteContext): void {
  registerStreamRoutes(app, context);
  const { services, files } = context;

  app.get('/session/:session/files', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    const path = params.text('path') ?? '.';
    params.check();
    const listing = await services.session.listFiles({ session, path: homePath(path) }, edgeOf(request).callContext);
    return sendJson(reply, 200, { files: JSON.stringify(listing.files), errors: '', abspath: listing.abspath });
  });

  app.get('/session/:session/download', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    const paths = params.texts('files');
    if (paths.length === 0) params.problem('files', 'is required');
    params.check();
    if (paths.length > maxDownloads) throw tooMuch('Too many files');
    const ctx = edgeOf(request).callContext;
    // All parts are complete before the first byte leaves: a missing file is an error, not half an answer.
    const parts: Buffer[] = [];
    for (const path of paths.map(homePath)) {
      const { stream } = await namedFile(() => files.archive(session, path, maxFileBytes, ctx));
      parts.push(await namedFile(() => collect(stream, maxFileBytes + tarOverhead)));
    }
    return sendMultipart(reply, parts);
  });

  app.get('/session/:session/download_single', async (request, reply) => {
    const session = sessionOf(request);
    const path = requiredPath(request, 'file');
    return sendFile(request, reply, () => namedFile(() => files.download(session, path, edgeOf(request).callContext)));
  });

  app.register(async (scope) => {
    await scope.register(multipart, {
      preservePath: true,
      limits: { files: maxFiles, fileSize: maxFileBytes, fields: 100, fieldSize: 64 * 1024, headerPairs: 50 },
    });
    scope.post('/session/:session/upload', async (request, reply) => {
      const session = sessionOf(request);
      if (!request.isMultipart()) throw new AppError('malformed-body', 'The body is not multipart/form-data.');
      const uploads = await readUploads(request);
      for (const { path, bytes } of uploads) {
        const target = { size: bytes.length, mode: 0o644 };
        await files.upload(session, path, target, Readable.from([bytes]), edgeOf(request).callContext);
      }
      return reply.code(204).send();
    });
  });
}

/** Our own forms: the bytes and nothing else, of any size, no faster than the other side takes them. */
function registerStreamRoutes(app: FastifyInstance, { files, clock, limits }: RouteContext): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    // The body stays in the socket until the route takes it.
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
    scope.put('/session/:session/file', async (request, reply) => {
      const edge = edgeOf(request);
      const session = sessionOf(request);
      const path = requiredPath(request, 'path');
      const size = Number(request.headers['content-length'] ?? Number.NaN);
      if (!Number.isSafeInteger(size)) throw invalidFields({ 'Content-Length': 'is required' });
      const target = { size, mode: modeOf(readParams(request).text('mode') ?? '644') };
      edge.limitBody(undefined);
      const stream = boundStream(edge, request.raw, { idle: { ms: limits.stallMs, clock }, drain: true });
      try {
        await files.upload(session, path, target, stream, edge.callContext);
      } finally {
        stream.destroy();
      }
      return reply.code(204).send();
    });
  });

  app.get('/session/:session/file', async (request, reply) => {
    const session = sessionOf(request);
    const path = requiredPath(request, 'path');
    return sendFile(request, reply, () => files.download(session, path, edgeOf(request).callContext));
  });

  app.get('/session/:session/archive', async (request, reply) => {
    const edge = edgeOf(request);
    const session = sessionOf(request);
    const { stream } = await files.archive(session, requiredPath(request, 'path'), 0, edge.callContext);
    return reply.header('content-type', 'application/x-tar').send(boundStream(edge, stream));
  });
}

function requiredPath(request: FastifyRequest, name: string): string {
  const params = readParams(request);
  const path = params.requiredText(name);
  params.check();
  return homePath(path);
}

async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  open: () => Promise<{ stream: Readable; size: number | null }>,
): Promise<FastifyReply> {
  const { stream, size } = await open();
  if (size !== null) reply.header('content-length', String(size));
  return reply.header('content-type', 'application/octet-stream').send(boundStream(edgeOf(request), stream));
}

/** Octal, as chmod has it. */
function modeOf(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw invalidFields({ mode: 'is not an octal file mode such as 644' });
  return Number.parseInt(text, 8);
}

interface Upload {
  readonly path: string;
  readonly bytes: Buffer;
}

/** All files of the form, read and checked before the first one is stored. */
async function readUploads(request: FastifyRequest): Promise<Upload[]> {
  const uploads: Upload[] = [];
  try {
    for await (const part of request.files()) {
      const bytes = await part.toBuffer();
      uploads.push({ path: homePath(decodeName(part.filename)), bytes });
    }
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'FST_FILES_LIMIT' || code === 'FST_PARTS_LIMIT') throw tooMuch('Too many files');
    if (code === 'FST_REQ_FILE_TOO_LARGE') throw tooMuch('Too large file');
    throw error instanceof AppError
      ? error
      : new AppError('malformed-body', 'The form cannot be read.', { cause: error });
  }
  if (uploads.length === 0) throw invalidFields({ src: 'is required' });
  return uploads;
}

/** Clients percent-encode the whole path, slashes too. */
function decodeName(filename: string | undefined): string {
  try {
    return decodeURIComponent(filename ?? '');
  } catch {
    throw new AppError('invalid-path', 'A file name is not percent-encoded correctly.');
  }
}

function tooMuch(message: string): AppError {
  return new AppError('invalid-input', message, { hint: streamHint });
}

/** Headers and padding of a tar whose content is within the limit. */
const tarOverhead = 1024 * 1024;

async function collect(stream: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) throw tooMuch('Too large file');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** In the official download calls a missing file is a wrong parameter. */
async function namedFile<T>(open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (hasCode(error, 'file-not-found'))
      throw new AppError('invalid-input', 'The file is not found.', { cause: error });
    if (hasCode(error, 'payload-too-large')) throw tooMuch('Too large file');
    throw error;
  }
}

function sendMultipart(reply: FastifyReply, parts: readonly Buffer[]): FastifyReply {
  const boundary = `part-${newRequestId()}`;
  const body = parts.flatMap((part) => [
    Buffer.from(
      `--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Encoding: identity\r\n` +
        `Content-Length: ${part.length}\r\n\r\n`,
    ),
    part,
    Buffer.from('\r\n'),
  ]);
  return reply
    .header('content-type', `multipart/mixed; boundary=${boundary}`)
    .send(Buffer.concat([...body, Buffer.from(`--${boundary}--\r\n`)]));
}
