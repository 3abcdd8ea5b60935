import { z } from 'zod';
import { terminalSchema } from './terminal.ts';
import { inputLimits, plainText } from './text.ts';

/** A path relative to the home folder /home/work of a kernel. The agent refuses whatever leaves it. */
export const homePathSchema = plainText(inputLimits.path).min(1);

export interface FileEntry {
  /** Name within the listed folder. */
  readonly filename: string;
  /** As `ls -l` shows it: `-rw-r--r--`. */
  readonly mode: string;
  /** Bytes. */
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  readonly ctime: number;
  readonly atime: number;
}

export interface FileListing {
  /** As seen inside the kernel: /home/work/... */
  readonly abspath: string;
  readonly files: FileEntry[];
}

/**
 * What a ticket for the agent's data port opens. `upload`: the stream is the file's bytes. `download`: the agent sends
 * the file's bytes. `archive`: the agent sends a tar of the file or folder. `port` and `service`: a splice to a TCP
 * port of the kernel or to its `run/<service>.sock`. `terminal`: frames, see `terminal-frames.ts` of the rpc package.
 */
export const transferSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('upload'),
    path: homePathSchema,
    /** Exact number of bytes that will come. */
    size: z.number().int().min(0),
    mode: z.number().int().min(0).max(0o777).default(0o644),
  }),
  z.strictObject({ kind: z.literal('download'), path: homePathSchema }),
  z.strictObject({
    kind: z.literal('archive'),
    path: homePathSchema,
    /** Refuse archives that would be larger, in bytes. 0 is unlimited. */
    maxBytes: z.number().int().min(0).default(0),
  }),
  z.strictObject({ kind: z.literal('port'), port: z.number().int().min(1).max(65_535) }),
  z.strictObject({ kind: z.literal('service'), service: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/) }),
  terminalSchema.extend({ kind: z.literal('terminal') }),
]);
export type Transfer = z.infer<typeof transferSchema>;

/** A single-use permission for one connection to an agent's data port. */
export interface TransferTicket {
  readonly ticket: string;
  /** host:port of the data port. */
  readonly address: string;
  /**
   * SHA-256 fingerprint of the one certificate that may answer there, as `AA:BB:…`. Absent where the port speaks without
   * TLS, which is on loopback only. It comes over a link on which the agent has proved itself.
   */
  readonly certificate?: string;
  /** With `download` and `archive` of a single file: its bytes, if known beforehand. */
  readonly size: number | null;
  readonly expiresAt: string;
}
