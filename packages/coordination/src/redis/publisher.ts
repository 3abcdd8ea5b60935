import { type Deferred, deferred } from '@backend.ai/core';
import { bodyField } from './blocking-connection.ts';
import type { ScriptCall } from './redis-server.ts';

interface Waiting {
  readonly stream: string;
  readonly body: string;
  readonly done: Deferred<void>;
}

const maxBatch = 512;

/**
 * Appends events to streams: those of one turn of the event loop together, one batch at a time, which keeps their order
 * and makes batches as large as the load asks for.
 */
export class Publisher {
  readonly #append: ScriptCall;
  readonly #maxLength: number;
  #waiting: Waiting[] = [];
  #sending: Promise<void> | undefined;

  /** @param maxLength Events that a stream keeps, about. */
  constructor(append: ScriptCall, maxLength: number) {
    this.#append = append;
    this.#maxLength = maxLength;
  }

  add(stream: string, body: string): Promise<void> {
    const done = deferred();
    this.#waiting.push({ stream, body, done });
    this.#sending ??= this.#send();
    return done.promise;
  }

  /** Resolves when nothing is on its way any more. */
  async drain(): Promise<void> {
    await this.#sending;
  }

  async #send(): Promise<void> {
    // After everything that this turn still publishes.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, maxBatch);
      try {
        await this.#append(
          batch.map(({ stream }) => stream),
          [this.#maxLength, bodyField, ...batch.map(({ body }) => body)],
        );
        for (const { done } of batch) done.resolve();
      } catch (error) {
        // What waited behind has waited as long, and would find the same.
        for (const { done } of [...batch, ...this.#waiting.splice(0)]) done.reject(error);
      }
    }
    this.#sending = undefined;
  }
}
