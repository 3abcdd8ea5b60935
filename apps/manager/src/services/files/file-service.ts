import { type Duplex, PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { CallContext, TransferTicket } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { KernelService } from '../kernels/kernel-service.ts';
import { actorOf } from '../sessions/session-service.ts';

export type DataPortDialler = (ticket: TransferTicket, signal: AbortSignal | undefined) => Promise<Duplex>;
export class FileService {
  readonly #kernels: KernelService;
  readonly #dial: DataPortDialler;
  constructor(kernels: KernelService, dial: DataPortDialler | undefined) {
    this.#kernels = kernels;
    this.#dial = dial ?? (() => Promise.reject(new AppError('not-implemented', 'data port')));
  }
  async upload(
    session: string,
    path: string,
    target: { size: number; mode: number },
    stream: Readable,
    ctx: CallContext,
  ): Promise<void> {
    const ticket = await this.#kernels.openTransfer(session, { kind: 'upload', path, ...target }, actorOf(ctx));
    await pipeline(stream, await this.#dial(ticket, ctx.signal));
  }
  async download(session: string, path: string, ctx: CallContext): Promise<{ stream: Readable; size: number | null }> {
    const ticket = await this.#kernels.openTransfer(session, { kind: 'download', path }, actorOf(ctx));
    return { stream: (await this.#dial(ticket, ctx.signal)).pipe(new PassThrough()), size: ticket.size };
  }
  async archive(session: string, path: string, maxBytes: number, ctx: CallContext): Promise<{ stream: Readable }> {
    const ticket = await this.#kernels.openTransfer(session, { kind: 'archive', path, maxBytes }, actorOf(ctx));
    return { stream: await this.#dial(ticket, ctx.signal) };
  }
}
