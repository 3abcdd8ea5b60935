import { type Clock, systemClock } from '@backend.ai/core';
import type { LiveValues, WindowCount } from '../live-values.ts';

interface Value<T> {
  value: T;
  /** On the monotonic clock; infinity: never. */
  expiresAt: number;
}

const sweepMs = 30_000;

/** Live values of a cluster that lives in one process. Expired ones are invisible at once and swept in a while. */
export class InProcessLiveValues implements LiveValues {
  readonly #clock: Clock;
  readonly #values = new Map<string, Value<string>>();
  readonly #windows = new Map<string, Value<number>>();
  readonly #sets = new Map<string, Map<string, Value<true>>>();
  #cancelSweep: (() => void) | undefined;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  get(key: string): Promise<string | null> {
    return Promise.resolve(this.#alive(this.#values, key)?.value ?? null);
  }

  set(key: string, value: string, ttlMs = Number.POSITIVE_INFINITY): Promise<void> {
    this.#put(this.#values, key, value, ttlMs);
    return Promise.resolve();
  }

  setIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean> {
    const absent = !this.#alive(this.#values, key);
    if (absent) this.#put(this.#values, key, value, ttlMs);
    return Promise.resolve(absent);
  }

  expire(key: string, ttlMs: number): Promise<boolean> {
    const present = this.#alive(this.#values, key);
    if (present) this.#put(this.#values, key, present.value, ttlMs);
    return Promise.resolve(present !== undefined);
  }

  delete(key: string): Promise<boolean> {
    const present = this.#alive(this.#values, key) !== undefined;
    this.#values.delete(key);
    return Promise.resolve(present);
  }

  increment(key: string, windowMs: number, by = 1): Promise<WindowCount> {
    const window = this.#alive(this.#windows, key) ?? this.#put(this.#windows, key, 0, windowMs);
    window.value += by;
    return Promise.resolve({ count: window.value, resetInMs: window.expiresAt - this.#clock.monotonic() });
  }

  markPresent(set: string, member: string, ttlMs: number): Promise<void> {
    let members = this.#sets.get(set);
    if (!members) {
      members = new Map();
      this.#sets.set(set, members);
    }
    this.#put(members, member, true, ttlMs);
    return Promise.resolve();
  }

  markAbsent(set: string, member: string): Promise<void> {
    this.#sets.get(set)?.delete(member);
    return Promise.resolve();
  }

  present(set: string): Promise<string[]> {
    const members = this.#sets.get(set) ?? new Map<string, Value<true>>();
    return Promise.resolve([...members.keys()].filter((member) => this.#alive(members, member)).sort());
  }

  close(): Promise<void> {
    this.#cancelSweep?.();
    this.#cancelSweep = undefined;
    return Promise.resolve();
  }

  #alive<T>(values: Map<string, Value<T>>, key: string): Value<T> | undefined {
    const found = values.get(key);
    return found && found.expiresAt > this.#clock.monotonic() ? found : undefined;
  }

  #put<T>(values: Map<string, Value<T>>, key: string, value: T, ttlMs: number): Value<T> {
    const entry = { value, expiresAt: this.#clock.monotonic() + ttlMs };
    values.set(key, entry);
    if (ttlMs !== Number.POSITIVE_INFINITY) this.#cancelSweep ??= this.#clock.setTimer(sweepMs, () => this.#sweep());
    return entry;
  }

  #sweep(): void {
    const now = this.#clock.monotonic();
    let mortal = false;
    for (const values of [this.#values, this.#windows, ...this.#sets.values()]) {
      for (const [key, { expiresAt }] of values) {
        if (expiresAt <= now) values.delete(key);
        else if (expiresAt !== Number.POSITIVE_INFINITY) mortal = true;
      }
    }
    for (const [name, members] of this.#sets) if (members.size === 0) this.#sets.delete(name);
    this.#cancelSweep = mortal ? this.#clock.setTimer(sweepMs, () => this.#sweep()) : undefined;
  }
}
