import type { ConfigStore } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';
import { type Logger, ReconcileLoop } from '@backend.ai/telemetry';
import { type IdleSettings, idlePrefix, parseIdleSetting, settingsOf } from './idle-settings.ts';

export interface IdleSettingsSourceOptions {
  readonly configStore: ConfigStore;
  readonly tickMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Part {
  readonly text: string;
  /** Null: of no meaning to idle checkers. */
  readonly setting: Partial<IdleSettings> | null;
}

/**
 * The settings of idle checkers as the config store has them: read again when it tells of a change, and now and then. A
 * value that makes no sense is refused with one line in the log, and the one before stays in force.
 */
export class IdleSettingsSource {
  readonly #options: IdleSettingsSourceOptions;
  readonly #loop: ReconcileLoop;
  #parts = new Map<string, Part>();
  readonly #refused = new Map<string, string>();
  #settings: IdleSettings = settingsOf([]);
  #stopWatching: (() => void) | undefined;

  constructor(options: IdleSettingsSourceOptions) {
    this.#options = options;
    const { tickMs, clock, logger } = options;
    this.#loop = new ReconcileLoop({ name: 'read idle settings', tickMs, clock, logger, run: () => this.#read() });
  }

  /** Those of the installation, or the defaults as long as they have not been read. */
  get current(): IdleSettings {
    return this.#settings;
  }

  start(): void {
    this.#stopWatching ??= this.#options.configStore.watch(idlePrefix, () => this.#loop.hint());
    this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#stopWatching?.();
    this.#stopWatching = undefined;
    await this.#loop.stop();
  }

  /** Resolves when they have been read once more. For tests. */
  settle(): Promise<void> {
    return this.#loop.settle();
  }

  async #read(): Promise<void> {
    const entries = await this.#options.configStore.list(idlePrefix);
    const parts = new Map<string, Part>();
    for (const { key, value } of entries) {
      const part = this.#partOf(key, value);
      if (part) parts.set(key, part);
    }
    this.#parts = parts;
    this.#settings = settingsOf([...parts.values()].flatMap(({ setting }) => setting ?? []));
  }

  #partOf(key: string, text: string): Part | undefined {
    const before = this.#parts.get(key);
    if (before?.text === text) return before;
    try {
      const setting = parseIdleSetting(key, text);
      this.#refused.delete(key);
      return { text, setting };
    } catch (error) {
      if (this.#refused.get(key) !== text)
        this.#options.logger.warn('idle setting refused', { key, value: text, error });
      this.#refused.set(key, text);
      return before;
    }
  }
}
