import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@backend.ai/core';
import { errorOfConnection } from './response-error.ts';
import type { Transport, TransportReply } from './transport.ts';

/** Bytes of one file between a session and this side. They never stand in memory as a whole unless asked to. */

/** Bytes so far, and in all where that is known. */
export type OnProgress = (done: number, total: number | null) => void;

export type UploadSource =
  | string
  | Uint8Array
  /** A local file. */
  | { readonly file: string }
  /** Chunks of exactly `size` bytes in all. */
  | { readonly stream: AsyncIterable<Uint8Array>; readonly size: number };

export interface TransferOptions {
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function upload(
  transport: Transport,
  session: string,
  path: string,
  source: UploadSource,
  options: TransferOptions = {},
): Promise<{ bytes: number }> {
  const { stream, size } = await open(source);
  await transport.send({
    method: 'PUT',
    target: `/session/${encodeURIComponent(session)}/file?path=${encodeURIComponent(path)}`,
    contentType: 'application/octet-stream',
    headers: { 'content-length': String(size) },
    body: exactly(stream, size, path, options.onProgress),
    signal: options.signal,
  });
  return { bytes: size };
}

async function open(source: UploadSource): Promise<{ stream: AsyncIterable<Uint8Array>; size: number }> {
  if (typeof source === 'string' || source instanceof Uint8Array) {
    const bytes = typeof source === 'string' ? new TextEncoder().encode(source) : source;
    return { stream: once(bytes), size: bytes.byteLength };
  }
  if ('stream' in source) return source;
  const info = await stat(source.file).catch((cause: unknown) => {
    throw new AppError('file-not-found', `The local file ${source.file} cannot be read.`, {
      hint: 'Check the name and that you may read it.',
      cause,
    });
  });
  if (!info.isFile()) {
    throw new AppError('invalid-path', `${source.file} is not a file.`, { hint: 'Name a file, not a folder.' });
  }
  return { stream: createReadStream(source.file, { highWaterMark: 256 * 1024 }), size: info.size };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (bytes.byteLength > 0) yield bytes;
}

/** A file that grew or shrank meanwhile must not end as half an upload. */
async function* exactly(
  stream: AsyncIterable<Uint8Array>,
  size: number,
  path: string,
  onProgress: OnProgress | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  let done = 0;
  for await (const chunk of stream) {
    done += chunk.byteLength;
    if (done > size) break;
    yield chunk;
    onProgress?.(done, size);
  }
  if (done !== size) {
    throw new AppError('invalid-input', `The data for ${path} is not the ${size} bytes that were announced.`, {
      hint: 'Upload it again when nothing writes to it.',
    });
  }
}

/** The bytes of a file (`file`) or a tar of a file or folder (`archive`). */
export async function* download(
  transport: Transport,
  session: string,
  path: string,
  kind: 'file' | 'archive',
  options: TransferOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const reply = await transport.send({
    method: 'GET',
    target: `/session/${encodeURIComponent(session)}/${kind}?path=${encodeURIComponent(path)}`,
    signal: options.signal,
  });
  yield* bodyOf(reply, transport.endpoint, options);
}

async function* bodyOf(
  { response, requestId }: TransportReply,
  endpoint: string,
  { onProgress, signal }: TransferOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const header = response.headers.get('content-length');
  const total = header === null ? null : Number(header);
  let done = 0;
  try {
    for await (const chunk of response.body ?? []) {
      done += chunk.byteLength;
      yield chunk;
      onProgress?.(done, total);
    }
  } catch (thrown) {
    throw errorOfConnection(thrown, { origin: endpoint, requestId, ...(signal ? { signal } : {}) });
  }
  if (total !== null && done !== total && response.headers.get('content-encoding') === null) {
    throw new AppError('connection-lost', `The transfer ended after ${done} of ${total} bytes.`, { requestId });
  }
}

/** Writes beside the target first, so that a broken transfer leaves no half file under its name. */
export async function writeWhole(target: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const partial = `${target}.part-${process.pid}`;
  try {
    await pipeline(chunks, createWriteStream(partial));
    await rename(partial, target);
  } catch (thrown) {
    await rm(partial, { force: true });
    if (thrown instanceof AppError) throw thrown;
    throw new AppError('invalid-path', `${target} cannot be written.`, {
      hint: 'Choose a folder that exists and that you may write to.',
      cause: thrown,
    });
  }
}
