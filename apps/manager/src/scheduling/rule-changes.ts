import type { EventBus } from '@backend.ai/coordination';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { ManagerEvents } from '../events.ts';

/**
 * Tells every manager, and with that the leader, that an administrator changed what the scheduler goes by: a group, a
 * policy, a limit of a tenant. A hint only: ticks find out as well.
 */
export class RuleChanges {
  readonly #bus: EventBus<ManagerEvents>;
  readonly #tasks: BackgroundTasks;
  readonly #onChange: () => void;
  #stopListening: (() => void) | undefined;

  constructor(bus: EventBus<ManagerEvents>, tasks: BackgroundTasks, onChange: () => void) {
    this.#bus = bus;
    this.#tasks = tasks;
    this.#onChange = onChange;
  }

  start(): void {
    this.#stopListening ??= this.#bus.listen(['rules-changed', 'tenants-changed'], () => this.#onChange());
  }

  stop(): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  announce(): void {
    this.#onChange();
    this.#tasks.start('publish change of rules', async () => {
      await this.#bus.publish('rules-changed', {});
    });
  }
}
