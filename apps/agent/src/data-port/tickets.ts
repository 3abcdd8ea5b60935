import { createHash, randomBytes } from 'node:crypto';
import type { Transfer } from '@backend.ai/contract';
import { AppError, type Clock, type RequestId } from '@backend.ai/core';

export interface Grant {
  readonly kernelId: string;
  readonly transfer: Transfer;
  /** The request that asked for the ticket: what is done with it belongs to that. */
  readonly requestId: RequestId;
}

export const ticketLifeMs = 30_000;
const mostTickets = 10_000;

/** Permissions for one connection each. Only their hashes are kept, so that looking one up takes no secret-dependent time. */
export class Tickets {
  readonly #clock: Clock;
  readonly #grants = new Map<string, { readonly grant: Grant; readonly expiresAt: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  issue(grant: Grant): { readonly ticket: string; readonly expiresAt: string } {
    this.#dropExpired();
    if (this.#grants.size >= mostTickets)
      throw new AppError('rate-limited', 'Too many transfers were opened and not begun.');
    const ticket = randomBytes(32).toString('base64url');
    this.#grants.set(hashOf(ticket), { grant, expiresAt: this.#clock.monotonic() + ticketLifeMs });
    return { ticket, expiresAt: new Date(this.#clock.now() + ticketLifeMs).toISOString() };
  }

  /** Works once. @throws AppError `forbidden` */
  redeem(ticket: unknown): Grant {
    const hash = typeof ticket === 'string' ? hashOf(ticket) : '';
    const found = this.#grants.get(hash);
    this.#grants.delete(hash);
    if (!found || found.expiresAt < this.#clock.monotonic()) {
      throw new AppError('forbidden', 'The ticket of this data connection is unknown, used or too old.', {
        hint: 'Start the transfer again.',
      });
    }
    return found.grant;
  }

  #dropExpired(): void {
    const now = this.#clock.monotonic();
    // In the order of issue, which is the order of expiry.
    for (const [hash, { expiresAt }] of this.#grants) {
      if (expiresAt >= now) break;
      this.#grants.delete(hash);
    }
  }
}

function hashOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64');
}
