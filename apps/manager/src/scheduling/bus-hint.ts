import type { EventBus } from '@backend.ai/coordination';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { ManagerEvents } from '../events.ts';

/** Events without content. */
type Hint = 'rules-changed' | 'tenants-changed' | 'warm-pools-changed';

/**
 * Tells every manager, and with that the leader, that something is not as it was: what the scheduler goes by, or warm pools.
 * A hint only: ticks find out as well.
 */
export class BusHint {
  readonly #bus: EventBus<ManagerEvents>;
  readonly #tasks: BackgroundTasks;
  readonly #hint: Hint;
  readonly #onHint: () => void;
  readonly #others: readonly Hint[];
  #stopListening: (() => void) | undefined;

  /** @param others Hints of others that mean the same. */
  constructor(
    bus: EventBus<ManagerEvents>,
    tasks: BackgroundTasks,
    hint: Hint,
    onHint: () => void,
    others: readonly Hint[] = [],
  ) {
    this.#bus = bus;
    this.#tasks = tasks;
    this.#hint = hint;
    this.#onHint = onHint;
    this.#others = others;
  }

  start(): void {
    this.#stopListening ??= this.#bus.listen([this.#hint, ...this.#others], () => this.#onHint());
  }

  stop(): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  announce(): void {
    this.#onHint();
    this.#tasks.start('publish a hint', async () => {
      await this.#bus.publish(this.#hint, {});
    });
  }
}
