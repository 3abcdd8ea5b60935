import type { EventBus } from '@backend.ai/coordination';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { ManagerEvents } from '../../events.ts';
import type { KeypairService } from './keypair-service.ts';

/**
 * Makes every manager forget what it remembers of key pairs once any tenant has changed. A manager that does not hear of
 * it goes on with what it knows until its memory is over.
 */
export class KeypairChanges {
  readonly #keypairs: Pick<KeypairService, 'forgetAll'>;
  readonly #bus: EventBus<ManagerEvents>;
  readonly #tasks: BackgroundTasks;
  #stopListening: (() => void) | undefined;

  constructor(keypairs: Pick<KeypairService, 'forgetAll'>, bus: EventBus<ManagerEvents>, tasks: BackgroundTasks) {
    this.#keypairs = keypairs;
    this.#bus = bus;
    this.#tasks = tasks;
  }

  start(): void {
    this.#stopListening ??= this.#bus.listen(['tenants-changed'], () => this.#keypairs.forgetAll());
  }

  stop(): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  announce(): void {
    this.#keypairs.forgetAll();
    this.#tasks.start('publish tenant change', async () => {
      await this.#bus.publish('tenants-changed', {});
    });
  }
}
