import type { Socket } from 'node:net';
import type { CallContext, Transfer } from '@backend.ai/contract';
import type { SessionDataPort } from '../kernels/session-data-port.ts';
import { actorOf, type SessionService } from '../sessions/session-service.ts';

/** What is connected to in a session, and stays open for as long as its user likes. */
export type StreamTarget = Extract<Transfer, { readonly kind: 'port' | 'service' | 'terminal' }>;

/** Connections to what runs in a session: its session counts as used while they are open. */
export class StreamService {
  readonly #dataPort: SessionDataPort;
  readonly #sessions: Pick<SessionService, 'recorded'>;

  constructor(dataPort: SessionDataPort, sessions: Pick<SessionService, 'recorded'>) {
    this.#dataPort = dataPort;
    this.#sessions = sessions;
  }

  /**
   * Terminals are in the audit log, connections to ports are not: a page of one application opens dozens.
   * @throws AppError `session-not-running`, `state-conflict` when nothing listens there
   */
  async open(session: string, target: StreamTarget, ctx: CallContext): Promise<Socket> {
    const work = async (): Promise<Socket> => (await this.#dataPort.open(session, target, ctx)).socket;
    if (target.kind !== 'terminal') return await work();
    const request = { session, action: 'session:use', changes: { terminal: target.name } } as const;
    return await this.#sessions.recorded(request, actorOf(ctx), work);
  }
}
