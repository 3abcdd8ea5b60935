import { z } from 'zod';

/** What kernels write, as a stream that can be followed from any place in it. */

/** A place in the output of one kernel; opaque to all but its agent. */
export const logCursorSchema = z.string().regex(/^\d{1,20}-\d{1,16}-\d{1,10}$/);

export interface LogChunk {
  /** Empty: nothing new within the time given. */
  readonly text: string;
  /** Where it goes on. Null: nothing has been written yet. */
  readonly cursor: string | null;
  /** Some of what was written before this text is not kept any more, and was not read. */
  readonly missed: boolean;
  /** The kernel has ended, and this is the rest. */
  readonly ended: boolean;
}

/** Kept of the output of an ended kernel that may still be followed, in bytes. */
export const keptConsoleBytes = 1024 * 1024;
/** The same packed, as a text of base64. */
export const keptConsoleText = 256 * 1024;

/** The end of what a kernel wrote. */
export const keptLogSchema = z.object({
  /** Stretches of its files, oldest first: the number of the file, the offset in it and the length in bytes. */
  parts: z
    .array(
      z.object({
        file: z.string().regex(/^\d{1,20}$/),
        from: z.number().int().min(0),
        bytes: z.number().int().min(1).max(keptConsoleBytes),
      }),
    )
    .max(2),
  /** Their bytes, one after the other, deflated (raw), as base64. */
  packed: z.base64().max(keptConsoleText),
});
export type KeptLog = z.infer<typeof keptLogSchema>;

/** A piece of the output of a session, as the API tells it. */
export interface SessionLogChunk {
  readonly text: string;
  /** What was written before this is gone: it came faster than it was read. */
  readonly missed: boolean;
}

/** A piece with the place behind it, from which another subscription can go on. */
export interface FollowedLog extends SessionLogChunk {
  readonly cursor: string;
}
