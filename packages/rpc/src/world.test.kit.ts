import { type PeerKind, procedureFor, procedureMetas, router } from '@backend.ai/contract';
import { AppError, type ErrorCode, systemClock } from '@backend.ai/core';
import { currentRequestId, type Logger } from '@backend.ai/telemetry';
import { waitFor } from '@backend.ai/testing';
import { z } from 'zod';
import { createRpcClient, type RpcClient, type RpcClientOptions } from './client.ts';
import { dial, parseAddress } from './dial.ts';
import type { Duplex } from './duplex.ts';
import { introduce } from './handshake.ts';
import { generateIdentity, type PeerDirectory, type PeerIdentity } from './identity.ts';
import { createRpcServer, type RpcLimits, type RpcServer } from './server.ts';

/** A server with procedures that do everything the link has to cope with, and callers for it. */

export type Transport = 'websocket' | 'in-process';

export interface Observed {
  /** Names of procedures in the order in which they began. */
  readonly began: string[];
  /** Request ids under which `bump` and `put` ran. */
  readonly changes: string[];
  /** Why signals aborted. */
  readonly aborted: unknown[];
  pulled: number;
  subscriptionsEnded: number;
  release: () => void;
}

export function createTestRouter(observed: Observed) {
  const peer = procedureFor('peer');
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return router({
    echo: peer.input(z.unknown()).query(({ input }) => {
      observed.began.push('echo');
      return input;
    }),
    nothing: peer.mutation(() => undefined),
    ids: peer.input(z.object({ turns: z.number() })).query(async ({ input, ctx }) => {
      for (let i = 0; i < input.turns; i++) await turn();
      return { fromContext: ctx.requestId, fromStorage: currentRequestId(), headers: ctx.headers, actor: ctx.actor };
    }),
    bump: peer.mutation(async ({ ctx }) => {
      observed.changes.push(ctx.requestId);
      await new Promise<void>((resolve) => {
        observed.release = resolve;
      });
      return 'bumped';
    }),
    put: procedureFor('peer', { idempotent: true }).mutation(async ({ ctx }) => {
      observed.changes.push(ctx.requestId);
      await new Promise<void>((resolve) => {
        observed.release = resolve;
      });
      return 'put';
    }),
    hang: procedureFor('peer', { deadlineMs: 10_000 })
      .input(z.object({ deaf: z.boolean() }))
      .query(({ input, ctx }) => {
        observed.began.push('hang');
        return new Promise<void>((_, reject) => {
          ctx.signal?.addEventListener('abort', () => {
            observed.aborted.push(ctx.signal?.reason);
            if (!input.deaf) reject(ctx.signal?.reason);
          });
        });
      }),
    big: peer.input(z.number()).query(({ input }) => 'x'.repeat(input)),
    measure: peer.input(z.string()).query(({ input }) => input.length),
    fail: peer.input(z.string()).query(({ input }) => {
      throw new AppError(input as ErrorCode, 'It failed as asked.', {
        hint: 'Ask for something else.',
        data: { asked: input },
        detail: 'secret',
      });
    }),
    failInside: peer.query(() => {
      throw new AppError('internal', 'It failed behind me.', { requestId: 'inner-request' });
    }),
    crash: peer.query(() => {
      throw new Error('secret path /etc');
    }),
    count: peer.input(z.object({ to: z.number(), failAt: z.number().optional() })).subscription(async function* ({
      input,
    }) {
      try {
        for (let i = 1; i <= input.to; i++) {
          if (i === input.failAt) throw new AppError('kernel-lost', 'The kernel is gone.');
          observed.pulled += 1;
          yield { i, requestId: currentRequestId() };
        }
      } finally {
        observed.subscriptionsEnded += 1;
      }
    }),
    ticks: peer.subscription(async function* ({ ctx }) {
      try {
        for (let i = 1; ; i++) {
          yield i;
          if (i === 3) await new Promise<void>((resolve) => ctx.signal?.addEventListener('abort', () => resolve()));
          if (ctx.signal?.aborted) return;
        }
      } finally {
        observed.subscriptionsEnded += 1;
      }
    }),
    flood: peer.input(z.number()).subscription(async function* ({ input }) {
      for (;;) {
        observed.pulled += 1;
        yield 'y'.repeat(input);
      }
    }),
    forUsers: procedureFor('account:read').query(() => 'secret'),
  });
}

export type TestRouter = ReturnType<typeof createTestRouter>;

export interface LogRecord {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
  readonly requestId: string | undefined;
}

export function recordingLogger(records: LogRecord[]): Logger {
  const at =
    (level: string) =>
    (message: string, fields: Record<string, unknown> = {}): void => {
      records.push({ level, message, fields, requestId: currentRequestId() });
    };
  const logger: Logger = {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: () => logger,
  };
  return logger;
}

/** Registered peers, single-use tokens, revocation. */
export class TestDirectory implements PeerDirectory {
  readonly keys = new Map<string, string>();
  readonly tokens = new Set<string>();

  async find(kind: PeerKind, id: string): Promise<string | undefined> {
    return this.keys.get(`${kind}:${id}`);
  }

  async join(token: string, peer: { kind: PeerKind; id: string; publicKey: string }): Promise<void> {
    if (!this.tokens.delete(token)) throw new AppError('peer-rejected', 'The join token is unknown, used or expired.');
    this.keys.set(`${peer.kind}:${peer.id}`, peer.publicKey);
  }
}

export class World {
  readonly observed: Observed = {
    began: [],
    changes: [],
    aborted: [],
    pulled: 0,
    subscriptionsEnded: 0,
    release: () => {},
  };
  readonly logs: LogRecord[] = [];
  readonly logger = recordingLogger(this.logs);
  readonly directory = new TestDirectory();
  readonly serverIdentity = generateIdentity('agent', 'i-server');
  readonly identity = generateIdentity('manager', 'm-1');
  readonly router = createTestRouter(this.observed);
  readonly transport: Transport;
  readonly limits: RpcLimits;
  server!: RpcServer;
  address = '';
  #clients: Array<RpcClient<TestRouter>> = [];

  constructor(transport: Transport, limits: RpcLimits = {}) {
    this.transport = transport;
    this.limits = limits;
    this.directory.keys.set('manager:m-1', this.identity.publicKey);
  }

  /** Again at the same address after `server.close`. */
  async start(): Promise<this> {
    this.server = createRpcServer({
      router: this.router,
      identity: this.serverIdentity,
      directory: this.directory,
      allow: ['manager'],
      logger: this.logger,
      limits: this.limits,
    });
    if (this.transport === 'in-process') {
      this.address ||= `inproc:test-${Math.random()}`;
      this.server.listenInProcess(this.address.slice('inproc:'.length));
    } else {
      const port = this.address ? Number(new URL(this.address).port) : 0;
      this.address = (await this.server.listenWebSocket({ host: '127.0.0.1', port })).address;
    }
    return this;
  }

  client(options: Partial<RpcClientOptions> = {}): RpcClient<TestRouter> {
    const client = createRpcClient<TestRouter>({
      address: this.address,
      identity: this.identity,
      serverKeys: [this.serverIdentity.publicKey],
      metas: procedureMetas(this.router),
      logger: this.logger,
      reconnect: { initialMs: 5, maxMs: 50 },
      ...options,
    });
    this.#clients.push(client);
    return client;
  }

  /** An accepted connection without a client on it: for frames that no client would send. */
  async rawPeer(identity: PeerIdentity = this.identity): Promise<RawPeer> {
    const duplex = await this.rawLine();
    const frames: Array<Record<string, unknown>> = [];
    const raw: RawPeer = { duplex, frames, closed: undefined };
    const options = {
      identity,
      serverKeys: [this.serverIdentity.publicKey],
      token: undefined,
      clock: systemClock,
    };
    await introduce(duplex, options, () => {
      duplex.handler = {
        onMessage: (text) => frames.push(...text.split('\n').map((line) => JSON.parse(line))),
        onClose: (reason) => {
          raw.closed = reason;
        },
        onDrain() {},
      };
    });
    return raw;
  }

  /** A line on which nothing was said yet. */
  rawLine(): Promise<Duplex> {
    return dial(parseAddress(this.address), { maxFrameBytes: 2 ** 24, pingMs: 10_000, clock: systemClock });
  }

  cutConnections(): void {
    this.server.cutPeers(() => false);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.server?.close({ graceMs: 0 });
  }
}

export interface RawPeer {
  readonly duplex: Duplex;
  readonly frames: Array<Record<string, unknown>>;
  closed: string | undefined;
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  await waitFor(condition, { intervalMs: 2, what });
}

/** What a promise was rejected with. */
export async function failureOf(work: Promise<unknown>): Promise<AppError> {
  const outcome = await work.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ('error' in outcome && outcome.error instanceof AppError) return outcome.error;
  throw new Error(`An AppError was expected, not ${JSON.stringify(outcome)}`);
}
