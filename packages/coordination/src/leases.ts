export interface Lease {
  readonly name: string;
  readonly holder: string;
  /** Greater than that of every earlier lease of this name; fences the writes of earlier holders. */
  readonly epoch: number;
  /** Prolongs by the time to live; false when it is lost, and then for good. */
  renew(): Promise<boolean>;
  /** Lets others acquire at once. Harmless when it is lost already. */
  release(): Promise<void>;
}

/** Exclusive roles for a limited time. A lease is a promise, not a lock: the holder may be late, so check the epoch. */
export interface Leases {
  /** Null while somebody holds it, the same holder included: a holder's name is unique to its process. */
  acquire(name: string, holder: string, ttlMs: number): Promise<Lease | null>;
}
