import type { EventBus } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { ManagerEvents } from '../../events.ts';
import type { AliasRecord, ImageRecord, ImageRepository } from '../../repositories/images.ts';

export interface KnownImages {
  readonly images: readonly ImageRecord[];
  readonly aliases: readonly AliasRecord[];
}

/** Whoever missed that they changed has read them again after this. */
const believedMs = 30_000;

/** What registries have and what administrators named, as this process knows it: read again after a change. */
export class ImageCatalog {
  readonly #images: ImageRepository;
  readonly #bus: EventBus<ManagerEvents>;
  readonly #tasks: BackgroundTasks;
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #known: { readonly reading: Promise<KnownImages>; readonly since: number } | undefined;
  #stopListening: (() => void) | undefined;

  constructor(images: ImageRepository, bus: EventBus<ManagerEvents>, tasks: BackgroundTasks, clock: Clock) {
    this.#images = images;
    this.#bus = bus;
    this.#tasks = tasks;
    this.#clock = clock;
  }

  start(): void {
    this.#stopListening ??= this.#bus.listen(['images-changed'], () => this.#forget());
  }

  stop(): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  known(): Promise<KnownImages> {
    if (this.#known && this.#clock.monotonic() - this.#known.since < believedMs) return this.#known.reading;
    return this.reload();
  }

  reload(): Promise<KnownImages> {
    const reading = this.#read();
    const known = { reading, since: this.#clock.monotonic() };
    this.#known = known;
    reading.catch(() => {
      if (this.#known === known) this.#known = undefined;
    });
    return reading;
  }

  /** Tells this process at once, and others over the bus. */
  announce(): void {
    this.#forget();
    this.#tasks.start('publish image change', async () => {
      await this.#bus.publish('images-changed', {});
    });
  }

  #forget(): void {
    this.#known = undefined;
    for (const listener of this.#listeners) listener();
  }

  async #read(): Promise<KnownImages> {
    const [images, aliases] = await Promise.all([this.#images.list(), this.#images.aliases()]);
    return { images, aliases };
  }
}
