export interface ConfigEntry {
  readonly key: string;
  readonly value: string;
  /** Grows with every change of any entry. */
  readonly revision: number;
}

export interface ConfigChange {
  readonly key: string;
  /** Null: the entry was deleted. */
  readonly value: string | null;
  readonly revision: number;
}

/** Settings of the cluster that may change while it runs. */
export interface ConfigStore {
  get(key: string): Promise<ConfigEntry | null>;
  put(key: string, value: string): Promise<ConfigEntry>;
  /**
   * Puts only if the entry has still this revision, or does not exist when `revision` is null.
   * @returns null when somebody else was faster
   */
  compareAndSet(key: string, revision: number | null, value: string): Promise<ConfigEntry | null>;
  /** Whether there was an entry. */
  delete(key: string): Promise<boolean>;
  /** In order of keys. */
  list(prefix: string): Promise<ConfigEntry[]>;
  /**
   * Calls back for every change from now on, in order of revisions. To miss nothing, watch first and list then, and
   * ignore changes that are not newer than what was listed. After an outage so long that the store no longer has the
   * history, the last change of each key is told. Returns how to stop.
   */
  watch(prefix: string, onChange: (change: ConfigChange) => void): () => void;
}
