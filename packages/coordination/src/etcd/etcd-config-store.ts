import { type Clock, systemClock } from '@backend.ai/core';
import { BackgroundTasks, type Logger } from '@backend.ai/telemetry';
import type { IKeyValue } from 'etcd3';
import type { ConfigChange, ConfigEntry, ConfigStore } from '../config-store.ts';
import type { EtcdServer } from './etcd-server.ts';
import { EtcdWatch } from './etcd-watch.ts';

const folder = 'config/';

export interface EtcdConfigStoreOptions {
  readonly server: EtcdServer;
  readonly logger: Logger;
  readonly clock?: Clock | undefined;
}

/** Settings in etcd, below the folder `config/` of our part of the keys. */
export class EtcdConfigStore implements ConfigStore {
  readonly #server: EtcdServer;
  readonly #options: { readonly clock: Clock; readonly logger: Logger };
  readonly #watches = new Set<EtcdWatch>();
  readonly #tasks: BackgroundTasks;

  constructor(options: EtcdConfigStoreOptions) {
    this.#server = options.server;
    this.#options = { logger: options.logger, clock: options.clock ?? systemClock };
    this.#tasks = new BackgroundTasks(options.logger);
  }

  async get(key: string): Promise<ConfigEntry | null> {
    const { kvs } = await this.#server.run((keys) => keys.get(folder + key).exec());
    return kvs[0] ? { ...entryOf(kvs[0]), key } : null;
  }

  async put(key: string, value: string): Promise<ConfigEntry> {
    await this.#watchesBegun();
    const { header } = await this.#server.run((keys) =>
      keys
        .put(folder + key)
        .value(value)
        .exec(),
    );
    return { key, value, revision: Number(header.revision) };
  }

  async compareAndSet(key: string, revision: number | null, value: string): Promise<ConfigEntry | null> {
    await this.#watchesBegun();
    // For etcd, what does not exist was modified in revision 0; no caller can have seen that.
    if (revision === 0) return null;
    const { succeeded, header } = await this.#server.run((keys) =>
      keys
        .if(folder + key, 'Mod', '==', revision ?? 0)
        .then(keys.put(folder + key).value(value))
        .commit(),
    );
    return succeeded ? { key, value, revision: Number(header.revision) } : null;
  }

  async delete(key: string): Promise<boolean> {
    await this.#watchesBegun();
    const { deleted } = await this.#server.run((keys) =>
      keys
        .delete()
        .key(folder + key)
        .exec(),
    );
    return Number(deleted) > 0;
  }

  async list(prefix: string): Promise<ConfigEntry[]> {
    await this.#watchesBegun();
    const { kvs } = await this.#server.run((keys) =>
      keys
        .getAll()
        .prefix(folder + prefix)
        .sort('Key', 'Ascend')
        .exec(),
    );
    return kvs.map(entryOf);
  }

  watch(prefix: string, onChange: (change: ConfigChange) => void): () => void {
    const watch = new EtcdWatch({
      ...this.#options,
      server: this.#server,
      prefix: folder + prefix,
      onChange: ({ key, ...change }) => onChange({ ...change, key: key.slice(folder.length) }),
    });
    this.#watches.add(watch);
    this.#tasks.start(`watch ${prefix}`, () => watch.run());
    return () => {
      watch.stop();
      this.#watches.delete(watch);
    };
  }

  /** Ends all watches. The server is closed by whoever opened it. */
  async close(): Promise<void> {
    for (const watch of this.#watches) watch.stop();
    this.#watches.clear();
    await this.#tasks.drain();
  }

  /**
   * A write of this object is seen by every watch that was asked for before; and what a list does not hold any more, or
   * not yet, comes after the moment from which such a watch tells.
   */
  async #watchesBegun(): Promise<void> {
    await Promise.all([...this.#watches].map((watch) => watch.begun));
  }
}

const entryOf = (found: IKeyValue): ConfigEntry => ({
  key: found.key.toString().slice(folder.length),
  value: found.value.toString(),
  revision: Number(found.mod_revision),
});
