import type { OperationHeaders } from '@backend.ai/contract';
import { AppError, type ErrorBody, isErrorBody, isPlainJson } from '@backend.ai/core';
import superjson, { type SuperJSONResult } from 'superjson';

/**
 * What goes over a link after the handshake. A frame is one JSON object on one line; frames of one turn travel in one
 * message, joined by line feeds (which JSON text never contains). `id` always stands first, so that the owner of a
 * frame that is too large to parse can still be told.
 *
 *     caller → server   {"id":7,"path":"status","type":"query","headers":{"request_id":"…","epoch":3},"input":{"json":…},"deadlineMs":4750}
 *                       {"id":7,"type":"cancel"}
 *     server → caller   {"id":7,"request_id":"…","result":{"json":…}}      the answer
 *                       {"id":7,"request_id":"…","error":{"code":…}}       the answer, or the end of a subscription
 *                       {"id":7,"request_id":"…","item":{"json":…}}        one item of a subscription
 *                       {"id":7,"request_id":"…","done":true}              its regular end
 */

export type OperationType = 'query' | 'mutation' | 'subscription';

export interface OperationFrame {
  readonly id: number;
  readonly path: string;
  readonly type: OperationType;
  readonly headers: OperationHeaders;
  /** Where peers of RPC version 2 look for the id, and put it. */
  readonly request_id?: string | undefined;
  readonly input: SuperJSONResult;
  /** Time left when it was sent; absent means unlimited. */
  readonly deadlineMs?: number | undefined;
}

export interface CancelFrame {
  readonly id: number;
  readonly type: 'cancel';
}

export type ClientFrame = OperationFrame | CancelFrame;

export interface ServerFrame {
  readonly id: number;
  readonly request_id: string;
  readonly result?: SuperJSONResult;
  readonly error?: ErrorBody;
  readonly item?: SuperJSONResult;
  readonly done?: true;
}

const operationTypes: ReadonlySet<unknown> = new Set(['query', 'mutation', 'subscription']);
const maxTimerMs = 2 ** 31 - 1;

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @throws AppError `malformed-body` */
function parseObject(text: string): Fields & { readonly id: number } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('malformed-body', 'A frame is not JSON.', { cause });
  }
  if (!isObject(value) || !Number.isSafeInteger(value.id)) throw malformed('has no id');
  return value as Fields & { readonly id: number };
}

const malformed = (what: string): AppError => new AppError('malformed-body', `A frame ${what}.`);

const isEnvelope = (value: unknown): value is SuperJSONResult => isObject(value);

/** @throws AppError `malformed-body` */
export function decodeClientFrame(text: string): ClientFrame {
  const frame = parseObject(text);
  if (frame.type === 'cancel') return { id: frame.id, type: 'cancel' };
  if (!operationTypes.has(frame.type)) throw malformed('has no known type');
  if (typeof frame.path !== 'string') throw malformed('names no procedure');
  if (!isEnvelope(frame.input)) throw malformed('has no input');
  if (frame.headers !== undefined && !isObject(frame.headers)) throw malformed('has malformed headers');
  const { deadlineMs } = frame;
  if (deadlineMs !== undefined && !(typeof deadlineMs === 'number' && deadlineMs > 0 && deadlineMs <= maxTimerMs))
    throw malformed('has a malformed deadline');
  return frame as unknown as OperationFrame;
}

/** @throws AppError `malformed-body` */
export function decodeServerFrame(text: string): ServerFrame {
  const frame = parseObject(text);
  const known = isEnvelope(frame.result) || isEnvelope(frame.item) || frame.done === true || isErrorBody(frame.error);
  if (!known || typeof frame.request_id !== 'string') throw malformed('is no answer');
  return frame as unknown as ServerFrame;
}

/** The id of a frame that is not going to be parsed. */
export function peekId(text: string): number | undefined {
  const match = /^\{"id":(\d{1,16})[,}]/.exec(text.slice(0, 32));
  return match ? Number(match[1]) : undefined;
}

/** The same for its request id, where our own encoder puts it. */
export function peekRequestId(text: string): string | undefined {
  return /"headers":\{"request_id":"([A-Za-z0-9._:-]{1,128})"/.exec(text.slice(0, 1_024))?.[1];
}

const jsonTexts = new Map<string, string>();

/** Procedure paths are few and repeat. */
function pathText(path: string): string {
  let text = jsonTexts.get(path);
  if (text === undefined) {
    text = JSON.stringify(path);
    if (jsonTexts.size < 1_000) jsonTexts.set(path, text);
  }
  return text;
}

export interface OutgoingOperation {
  readonly id: number;
  readonly path: string;
  readonly type: OperationType;
  readonly headersText: string;
  readonly inputText: string;
}

export function encodeOperation(
  operation: OutgoingOperation,
  deadlineMs: number | undefined,
  legacyRequestId: string | undefined,
): string {
  const legacy = legacyRequestId === undefined ? '' : `,"request_id":${JSON.stringify(legacyRequestId)}`;
  const deadline = deadlineMs === undefined ? '' : `,"deadlineMs":${Math.min(deadlineMs, maxTimerMs)}`;
  return `{"id":${operation.id},"path":${pathText(operation.path)},"type":"${operation.type}","headers":${operation.headersText}${legacy},"input":${operation.inputText}${deadline}}`;
}

export function encodeCancel(id: number): string {
  return `{"id":${id},"type":"cancel"}`;
}

/** A request id has passed `requestIdPattern`: nothing in it needs escaping. */
const answer = (id: number, requestId: string, rest: string): string =>
  `{"id":${id},"request_id":"${requestId}",${rest}}`;

export function encodeResult(id: number, requestId: string, value: unknown): string {
  return answer(id, requestId, `"result":${encodeValue(value)}`);
}

export function encodeItem(id: number, requestId: string, value: unknown): string {
  return answer(id, requestId, `"item":${encodeValue(value)}`);
}

export function encodeDone(id: number, requestId: string): string {
  return answer(id, requestId, '"done":true');
}

export function encodeError(id: number, requestId: string, error: ErrorBody): string {
  return answer(id, requestId, `"error":${JSON.stringify(error)}`);
}

const encodedUndefined = JSON.stringify(superjson.serialize(undefined));

/** The superjson envelope as text. Values that JSON carries as they are skip superjson: it costs more than the rest. */
export function encodeValue(value: unknown): string {
  if (value === undefined) return encodedUndefined;
  if (isPlainJson(value)) return `{"json":${JSON.stringify(value)}}`;
  return JSON.stringify(superjson.serialize(value));
}

/** @throws whatever superjson throws on malformed metadata */
export function decodeValue(envelope: SuperJSONResult): unknown {
  return envelope.meta === undefined ? envelope.json : superjson.deserialize(envelope, { inPlace: true });
}
