/**
 * What a runner says and writes. It runs under the user's uid, so everything here is untrusted: checked field by field,
 * bounded, and never kept beyond the fields that are known.
 */
import type { ErrorCode } from '@backend.ai/core';
import type { RunnerLanguage } from './runner-command.ts';

/** One line of a journal or of the socket: a picture of 8 MiB fits. */
export const lineLimitBytes = 10 << 20;

export type RunState = 'queued' | 'running' | 'waiting-input' | 'finished';

export interface RunEvent {
  readonly runId: string;
  /** Length of the journal in bytes. */
  readonly end: number;
  readonly state: RunState;
  /** By what it asks, or has ended, as long as the disk does not take that into the journal. */
  readonly last?: RunRecord | undefined;
}

export interface RunnerInfo {
  readonly language: RunnerLanguage;
  readonly version: number;
  /** As the kernel counts processes. */
  readonly pid: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly current: string | null;
}

export type TextKind = 'stdout' | 'stderr' | 'html' | 'svg' | 'log';

export type RunRecord =
  | { readonly t: TextKind; readonly d: string }
  | { readonly t: 'media'; readonly m: string; readonly d: string }
  | { readonly t: 'waiting-input'; readonly p: boolean }
  | { readonly t: 'truncated'; readonly limit: number }
  | { readonly t: 'clean-finished' | 'build-finished'; readonly x: number; readonly s?: string }
  | RunEnd;

export interface RunEnd {
  readonly t: 'finished';
  readonly x: number;
  readonly s?: string;
  /** The disk was full while it ran, or is now that it has failed. */
  readonly full?: true;
}

export type RunnerReply =
  | { readonly re: number; readonly ok: true; readonly body: Record<string, unknown> }
  | { readonly re: number; readonly ok: false; readonly code: string; readonly message: string };

const runIdPattern = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;
const signalPattern = /^SIG[A-Z0-9+-]{1,16}$/;
const mimePattern = /^[\w.+-]{1,64}\/[\w.+-]{1,64}$/;

export function isRunId(value: unknown): value is string {
  return typeof value === 'string' && runIdPattern.test(value);
}

export function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function parseReply(message: Record<string, unknown>): RunnerReply | undefined {
  const { re, ok } = message;
  if (!isCount(re)) return undefined;
  if (ok === true) return { re, ok, body: message };
  if (ok !== false || typeof message.code !== 'string') return undefined;
  return { re, ok, code: message.code.slice(0, 64), message: describe(message.message) };
}

export function parseEvent(message: Record<string, unknown>): RunEvent | undefined {
  const { ev, runId, end, state } = message;
  if (ev !== 'run' || !isRunId(runId) || !isCount(end) || !isRunState(state)) return undefined;
  const last = isObject(message.last) ? recordOf(message.last) : undefined;
  return { runId, end, state, ...(last ? { last } : {}) };
}

export function parseInfo(body: Record<string, unknown>): RunnerInfo | undefined {
  const { language, version, pid, startedAt, current } = body;
  if (language !== 'python' && language !== 'node' && language !== 'shell') return undefined;
  if (!isCount(version) || !isCount(pid) || !isCount(startedAt)) return undefined;
  return { language, version, pid, startedAt, current: isRunId(current) ? current : null };
}

export function parseCompletions(body: Record<string, unknown>): string[] {
  const found = body.completions;
  if (!Array.isArray(found)) return [];
  return found.filter((each) => typeof each === 'string').slice(0, 1000);
}

/** Undefined for a record that is damaged or of a kind this agent does not know. */
export function parseRecord(line: string): RunRecord | undefined {
  const value = parseObject(line);
  return value && recordOf(value);
}

function recordOf(value: Record<string, unknown>): RunRecord | undefined {
  const { t, d } = value;
  switch (t) {
    case 'stdout':
    case 'stderr':
    case 'html':
    case 'svg':
    case 'log':
      return typeof d === 'string' ? { t, d } : undefined;
    case 'media': {
      const mime = value.m;
      return typeof d === 'string' && typeof mime === 'string' && mimePattern.test(mime)
        ? { t, m: mime, d }
        : undefined;
    }
    case 'waiting-input':
      return { t, p: value.p === true };
    case 'truncated':
      return isCount(value.limit) ? { t, limit: value.limit } : undefined;
    case 'clean-finished':
    case 'build-finished':
    case 'finished': {
      const { x, s, full } = value;
      if (!isCount(x)) return undefined;
      const end = { x, ...(typeof s === 'string' && signalPattern.test(s) ? { s } : {}) };
      return t === 'finished' ? { t, ...end, ...(full === true ? { full } : {}) } : { t, ...end };
    }
    default:
      return undefined;
  }
}

/** What a refusal of the runner means to our callers. */
export interface ProgramState {
  readonly running: boolean;
  /** Null while it runs. */
  readonly exitCode: number | null;
  /** The end of what it wrote. */
  readonly tail: string;
}

export function parseProgram({ known, running, exitCode, tail }: Record<string, unknown>): ProgramState | undefined {
  if (known !== true || typeof running !== 'boolean') return undefined;
  return {
    running,
    exitCode: isCount(exitCode) ? exitCode : null,
    tail: typeof tail === 'string' ? tail.slice(-4096) : '',
  };
}

export function parseTexts(value: unknown): ReadonlyMap<string, string> {
  if (typeof value !== 'object' || value === null) return new Map();
  const entries = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return new Map(entries);
}

export const refusals: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  'unknown-run': ['run-not-found', 'The kernel knows no such execution.'],
  'disk-full': ['disk-full', 'The disk of the agent is full: the execution was not begun.'],
  'not-waiting': ['state-conflict', 'The execution does not wait for input.'],
  busy: ['kernel-busy', 'The kernel has too much waiting already.'],
  'bad-request': ['invalid-input', 'The kernel does not understand the request.'],
  'not-claimed': ['state-conflict', 'The kernel belongs to nobody yet.'],
  'unknown-op': ['unsupported-feature', "The kernel's runner does not know this operation."],
};

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isRunState(value: unknown): value is RunState {
  return value === 'queued' || value === 'running' || value === 'waiting-input' || value === 'finished';
}

function describe(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 1000) : '';
}
