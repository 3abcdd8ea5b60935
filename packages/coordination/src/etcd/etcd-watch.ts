import { backoffMs, type Clock, deferred, delay } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { IWatchResponse } from 'etcd3';
import type { ConfigChange, ConfigEntry } from '../config-store.ts';
import { etcdFailure } from './etcd-errors.ts';
import type { EtcdServer } from './etcd-server.ts';
import { missedChanges } from './missed-changes.ts';

export interface EtcdWatchOptions {
  readonly server: EtcdServer;
  readonly prefix: string;
  readonly onChange: (change: ConfigChange) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * One watch on a prefix, for as long as it takes: after a lost connection it goes on behind the last change it told. Only
 * when etcd has compacted that part of its history, or was replaced by an older copy of itself, it compares what is there
 * with what it told, and tells the last change of each key.
 */
export class EtcdWatch {
  /** Resolves when the first attempt to begin has ended, well or not. */
  readonly begun: Promise<void>;
  readonly #options: EtcdWatchOptions;
  readonly #stop = new AbortController();
  readonly #begun = deferred();
  /** Everything up to this revision was told. */
  #position: number | undefined;
  /** Revisions of the keys that exist, as told. */
  readonly #known = new Map<string, number>();

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
    this.begun = this.#begun.promise;
  }

  stop(): void {
    this.#stop.abort();
    this.#begun.resolve();
  }

  async run(): Promise<void> {
    const { server, prefix, clock, logger } = this.#options;
    const { signal } = this.#stop;
    let compare = true;
    for (let failures = 0; !signal.aborted; ) {
      try {
        if (compare) await this.#compare();
        compare = false;
        this.#begun.resolve();
        compare = (await this.#follow()) === 'gap';
        failures = 0;
      } catch (error) {
        this.#begun.resolve();
        if (signal.aborted) break;
        if (failures === 0) logger.warn('settings cannot be watched', { prefix, error: etcdFailure(error, server) });
        await delay(clock, backoffMs(failures, { initialMs: 50, maxMs: 1_000 }), signal);
        failures += 1;
      }
    }
  }

  /** Tells what the present state says about changes that were missed; nothing the first time. */
  async #compare(): Promise<void> {
    const { server, prefix } = this.#options;
    const { kvs, header } = await server.run((keys) => keys.getAll().prefix(prefix).exec());
    if (this.#stop.signal.aborted) return;
    const revision = Number(header.revision);
    const present: ConfigEntry[] = kvs.map((found) => ({
      key: found.key.toString(),
      value: found.value.toString(),
      revision: Number(found.mod_revision),
    }));
    if (this.#position === undefined) for (const entry of present) this.#known.set(entry.key, entry.revision);
    else for (const change of missedChanges(this.#known, present, revision)) this.#tell(change);
    this.#position = revision;
  }

  /** Tells changes until the watch is stopped or finds a gap. @throws when the connection breaks */
  async #follow(): Promise<'stopped' | 'gap'> {
    const { server, prefix } = this.#options;
    const { signal } = this.#stop;
    const stream = await server.keys.watchClient.watch();
    const outcome = deferred<'stopped' | 'gap'>();
    stream.on('data', (answer: IWatchResponse) => {
      try {
        if (this.#take(answer) === 'gap') outcome.resolve('gap');
      } catch (error) {
        outcome.reject(error);
      }
    });
    stream.on('error', (error: Error) => outcome.reject(error));
    stream.on('end', () => outcome.reject(new Error('etcd ended the watch.')));
    const stop = (): void => outcome.resolve('stopped');
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const { start, end } = server.range(prefix);
    const from = (this.#position ?? 0) + 1;
    stream.write({
      create_request: { key: start, range_end: end, start_revision: from, progress_notify: true },
    });
    try {
      return await outcome.promise;
    } finally {
      signal.removeEventListener('abort', stop);
      // Ended first: the client takes a stream that fails while it is open for a server that does.
      stream.end();
      stream.cancel();
    }
  }

  #take({ header, created, canceled, compact_revision, cancel_reason, events }: IWatchResponse): 'gap' | undefined {
    const revision = Number(header.revision);
    const position = this.#position ?? 0;
    // Compacted, or an older copy that would tell nothing before it has caught up.
    if (Number(compact_revision) > 0 || revision < position) return 'gap';
    if (canceled) throw new Error(`etcd cancelled the watch: ${cancel_reason}`);
    for (const { type, kv } of events) {
      const value = type.toLowerCase() === 'put' ? kv.value.toString() : null;
      const change = { key: this.#options.server.keyOf(kv), value, revision: Number(kv.mod_revision) };
      if (change.revision > position) this.#tell(change);
      this.#position = Math.max(position, change.revision);
    }
    // An answer without changes says that there are none up to its revision; the first one only that the watch begins.
    if (events.length === 0 && !created) this.#position = revision;
    return undefined;
  }

  #tell(change: ConfigChange): void {
    if (change.value === null) this.#known.delete(change.key);
    else this.#known.set(change.key, change.revision);
    if (this.#stop.signal.aborted) return;
    try {
      this.#options.onChange(change);
    } catch (error) {
      this.#options.logger.error('watcher of settings failed', { key: change.key, error });
    }
  }
}
