import { nextTurn } from '@backend.ai/core';
import type { Redis } from 'ioredis';

/** How long a read waits for events before it asks again. */
export const blockMs = 1_000;

/** One entry of a stream. */
export interface StreamEntry {
  readonly stream: string;
  readonly entryId: string;
  /** Undefined: something else than we write. */
  readonly body: string | undefined;
}

export const bodyField = 'event';

type Reply = Array<[stream: string, entries: Array<[id: string, fields: string[] | null]>]> | null;

/** A connection for reads that wait, and a way to end the waiting. */
export class BlockingConnection {
  readonly #own: Redis;
  readonly #other: Redis;
  #clientId: number | undefined;
  #reading: Promise<Reply> | undefined;

  /** @param other A connection that is free while this one waits. */
  constructor(own: Redis, other: Redis) {
    this.#own = own;
    this.#other = other;
    own.on('close', () => {
      this.#clientId = undefined;
    });
  }

  /** Waits for the reply of XREAD or XREADGROUP; empty when none came in time or `wake` was called. */
  async read(command: 'XREAD' | 'XREADGROUP', args: ReadonlyArray<string | number>): Promise<StreamEntry[]> {
    this.#clientId ??= await this.#own.client('ID');
    this.#reading = this.#own.call(command, ...args) as Promise<Reply>;
    try {
      return entriesOf(await this.#reading);
    } finally {
      this.#reading = undefined;
    }
  }

  /** Ends the present read, if there is one. */
  async wake(): Promise<void> {
    const reading = this.#reading;
    while (reading !== undefined && this.#reading === reading && this.#clientId !== undefined) {
      try {
        // Zero: the read has not come to the server yet, or its answer is on its way.
        if ((await this.#other.client('UNBLOCK', this.#clientId)) === 1) return;
      } catch {
        // Nobody is there to ask. The read fails with the connection, and whoever reads finds out why.
        this.#own.disconnect(true);
        return;
      }
      await nextTurn();
    }
  }

  close(): void {
    this.#own.disconnect();
  }
}

function entriesOf(reply: Reply): StreamEntry[] {
  const entries: StreamEntry[] = [];
  for (const [stream, found] of reply ?? []) {
    for (const [entryId, fields] of found) {
      entries.push({ stream, entryId, body: fields?.[0] === bodyField ? fields[1] : undefined });
    }
  }
  return entries;
}
