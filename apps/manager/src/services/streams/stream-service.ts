import type { Socket } from 'node:net';
import type { CallContext, Transfer } from '@backend.ai/contract';
import { connectDataPort } from '@backend.ai/rpc';
import type { DataPortDialler } from '../files/file-service.ts';
import type { KernelService } from '../kernels/kernel-service.ts';
import { actorOf, type SessionService } from '../sessions/session-service.ts';

/** What is connected to in a session, and stays open for as long as its user likes. */
export type StreamTarget = Extract<Transfer, { readonly kind: 'port' | 'service' | 'terminal' }>;

const dialDataPort: DataPortDialler = (ticket, signal) => connectDataPort(ticket, { signal });

/** Connections to what runs in a session: its session counts as used while they are open. */
export class StreamService {
  readonly #kernels: KernelService;
  readonly #sessions: Pick<SessionService, 'recorded'>;
  readonly #dial: DataPortDialler;

  constructor(
    kernels: KernelService,
    sessions: Pick<SessionService, 'recorded'>,
    dial: DataPortDialler = dialDataPort,
  ) {
    this.#kernels = kernels;
    this.#sessions = sessions;
    this.#dial = dial;
  }

  /**
   * Terminals are in the audit log, connections to ports are not: a page of one application opens dozens.
   * @throws AppError `session-not-running`, `state-conflict` when nothing listens there
   */
  async open(session: string, target: StreamTarget, ctx: CallContext): Promise<Socket> {
    const work = (): Promise<Socket> => this.#open(session, target, ctx);
    if (target.kind !== 'terminal') return await work();
    const request = { session, action: 'session:use', changes: { terminal: target.name } } as const;
    return await this.#sessions.recorded(request, actorOf(ctx), work);
  }

  async #open(session: string, target: StreamTarget, ctx: CallContext): Promise<Socket> {
    const { ticket, done } = await this.#kernels.openTransfer(session, target, actorOf(ctx));
    try {
      const { socket } = await this.#dial(ticket, ctx.signal);
      socket.once('close', done);
      if (socket.destroyed) done();
      return socket;
    } catch (error) {
      done();
      throw error;
    }
  }
}
