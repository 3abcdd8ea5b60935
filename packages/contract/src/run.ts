import type { ErrorBody } from '@backend.ai/core';
import { z } from 'zod';
import { inputLimits, plainText } from './text.ts';

/** A run is one execution inside a kernel: a snippet (`query`) or commands (`batch`). */

export const runIdSchema = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, "_" or "-"');

/** Milliseconds that one step of a batch run may last. */
const stepTimeoutSchema = z.number().int().min(1).max(2_147_483_647).optional();
const commandSchema = plainText(inputLimits.command).nullish();

export const executeInputSchema = z.strictObject({
  mode: z.enum(['query', 'batch', 'continue', 'input']),
  /** Null on a first call: the server assigns one. Required for `continue` and `input`. */
  runId: runIdSchema.nullish(),
  /** The snippet (`query`) or the user's text (`input`). */
  code: plainText(inputLimits.code).default(''),
  options: z
    .strictObject({
      clean: commandSchema,
      build: commandSchema,
      exec: commandSchema,
      /** False: what the build prints stays out of the result; it is in the log of the kernel. */
      buildLog: z.boolean().optional(),
      /** A step that takes longer is killed and has failed with exit code 124. The kernel goes on. */
      timeoutsMs: z
        .strictObject({ clean: stepTimeoutSchema, build: stepTimeoutSchema, exec: stepTimeoutSchema })
        .optional(),
      /** With `input`: no more will come; the program reads end-of-file. */
      eof: z.boolean().optional(),
    })
    .default({}),
  /** Byte offset in the run's journal up to which the caller has read. Absent: the server remembers for the caller. */
  cursor: z.number().int().min(0).optional(),
  /** Answer this long after the first new output, in milliseconds. */
  flushMs: z.number().int().min(0).max(10_000).default(2000),
  /** Answer `continued` after this long without any output, in milliseconds. */
  holdMs: z.number().int().min(0).max(30_000).default(2000),
  /** With a first call: the run may last this long, then its kernel ends with `exec-timeout`. 0 is unlimited. */
  timeoutMs: z.number().int().min(0).max(2_147_483_647).default(0),
});
export type ExecuteInput = z.infer<typeof executeInputSchema>;

export const runStatuses = [
  'continued',
  'waiting-input',
  'clean-finished',
  'build-finished',
  'finished',
  'exec-timeout',
] as const;
export type RunStatus = (typeof runStatuses)[number];

export type ConsoleKind = 'stdout' | 'stderr' | 'media' | 'html' | 'svg' | 'log';
/** `media` carries [mime type, data]; the others text. */
export type ConsoleItem = [kind: ConsoleKind, data: string | [mime: string, data: string]];

export interface RunResult {
  readonly runId: string;
  readonly status: RunStatus;
  /** Null until finished; 128 + n after signal n. */
  readonly exitCode: number | null;
  /** With `waiting-input` only. */
  readonly options: { readonly is_password: boolean } | null;
  readonly console: ConsoleItem[];
  /** To be given back with the next `continue`. */
  readonly cursor: number;
  /** What happened to the program besides its exit code: killed for memory, output cut, process limit reached. */
  readonly notices: ErrorBody[];
}

export const completeInputSchema = z.strictObject({
  /** Code up to the cursor. */
  code: plainText(inputLimits.completion),
  /** Position in `code`; its end when absent. */
  position: z.number().int().min(0).optional(),
});
export type CompleteInput = z.infer<typeof completeInputSchema>;
export interface CompleteResult {
  readonly completions: string[];
}
