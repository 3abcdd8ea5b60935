import type { CallContext, Transfer, TransferTicket } from '@backend.ai/contract';
import { connectDataPort, type DataChannel } from '@backend.ai/rpc';
import { actorOf } from '../sessions/session-service.ts';
import type { KernelService } from './kernel-service.ts';

export type DataPortDialler = (ticket: TransferTicket, signal: AbortSignal | undefined) => Promise<DataChannel>;

const dialDataPort: DataPortDialler = (ticket, signal) => connectDataPort(ticket, { signal });

/** Bytes into a session and out of it: its agent gives a ticket, and its data port is dialled with that. */
export class SessionDataPort {
  readonly #kernels: Pick<KernelService, 'openTransfer'>;
  readonly #dial: DataPortDialler;

  constructor(kernels: Pick<KernelService, 'openTransfer'>, dial: DataPortDialler = dialDataPort) {
    this.#kernels = kernels;
    this.#dial = dial;
  }

  /** The session counts as used until the socket is closed. @throws AppError `session-not-running`, `agent-unreachable` … */
  async open(session: string, transfer: Transfer, ctx: CallContext): Promise<DataChannel> {
    const { ticket, done } = await this.#kernels.openTransfer(session, transfer, actorOf(ctx));
    try {
      const channel = await this.#dial(ticket, ctx.signal);
      channel.socket.once('close', done);
      if (channel.socket.closed) done();
      return channel;
    } catch (error) {
      done();
      throw error;
    }
  }
}
