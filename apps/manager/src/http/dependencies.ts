import type { Duplex, Readable } from 'node:stream';
import type { ApiServices, CallContext, Transfer, UserActor } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';

/** What a request is signed with. */
export interface Keypair {
  readonly actor: UserActor;
  readonly secretKey: string;
  /** Calls per 15 minutes; 0 is unlimited. */
  readonly rateLimit: number;
}

export interface RateCount {
  /** 0 is unlimited. */
  readonly limit: number;
  /** What is left after this request; negative: these calls are too many. */
  readonly remaining: number;
}

export interface Keypairs {
  /** Undefined for unknown and for inactive keys. */
  find(accessKey: string): Promise<Keypair | undefined>;
  /** @throws AppError `invalid-input`, `impersonation-forbidden` */
  actFor(actor: UserActor, ownerAccessKey: string): Promise<UserActor>;
  /** Counts the calls of one authenticated request, one or more, in the rolling window of 900 seconds. */
  countCalls(accessKey: string, calls: number): Promise<RateCount>;
}

export interface UploadTarget {
  /** Exact number of bytes that come. */
  readonly size: number;
  readonly mode: number;
}

/** Bytes in and out of a session's home folder. Paths are relative to it and were checked not to leave it by name. */
export interface SessionFiles {
  /** Resolves when the file is complete in the session. Reads `stream` no faster than it can be stored. */
  upload(session: string, path: string, target: UploadTarget, stream: Readable, ctx: CallContext): Promise<void>;
  /** Resolves when the first byte may be read. @throws AppError `file-not-found`, `invalid-path` */
  download(session: string, path: string, ctx: CallContext): Promise<{ stream: Readable; size: number | null }>;
  /** A tar of the file or folder. `maxBytes` 0 is unlimited. @throws AppError `payload-too-large` and those above */
  archive(session: string, path: string, maxBytes: number, ctx: CallContext): Promise<{ stream: Readable }>;
}

export interface SessionStreams {
  /** Bytes in both directions. @throws AppError `session-not-running`, `state-conflict` when nothing listens there */
  open(
    session: string,
    target: Extract<Transfer, { readonly kind: 'port' | 'service' | 'terminal' }>,
    ctx: CallContext,
  ): Promise<Duplex>;
}

export interface Health {
  /** The process does its work; if not, restart it. */
  readonly live: boolean;
  /** It may be given requests now. */
  readonly ready: boolean;
}

/** Everything the HTTP edge needs of the rest of the manager. */
export interface HttpDependencies {
  readonly services: ApiServices;
  readonly keypairs: Keypairs;
  readonly files: SessionFiles;
  readonly streams: SessionStreams;
  /** Whoever asks needs no login. */
  health(): Promise<Health>;
  readonly logger: Logger;
  readonly clock: Clock;
}
