import { type Logger, runWithRequest } from '@backend.ai/telemetry';
import type { BusEvent } from './event-bus.ts';

type Handler = (event: BusEvent) => void | Promise<void>;

interface Listener {
  readonly types: ReadonlySet<string>;
  readonly handler: Handler;
}

/** Those of this process who hear of everything of some types. */
export class Listeners {
  readonly #logger: Logger;
  readonly #listeners = new Set<Listener>();
  readonly #running = new Set<Promise<void>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(types: readonly string[], handler: Handler): () => void {
    const listener: Listener = { types: new Set(types), handler };
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(event: BusEvent): void {
    for (const listener of this.#listeners) if (listener.types.has(event.type)) this.#call(listener, event);
  }

  /** Tells nobody any more, and waits for those who were told. */
  async close(): Promise<void> {
    this.#listeners.clear();
    await Promise.all(this.#running);
  }

  #call(listener: Listener, event: BusEvent): void {
    const running: Promise<void> = runWithRequest({ requestId: event.requestId }, () =>
      Promise.resolve()
        .then(() => (this.#listeners.has(listener) ? listener.handler(event) : undefined))
        .catch((error: unknown) => {
          this.#logger.error('event listener failed', { event_id: event.id, event_type: event.type, error });
        })
        .finally(() => this.#running.delete(running)),
    );
    this.#running.add(running);
  }
}
