import { createHash } from 'node:crypto';
import { AppError } from '@backend.ai/core';

const firstBlock = 700_000;
const blocks = 65_536;
export const uidsPerInstallation = 1024;

/** Where the user ids of an installation begin: agents that share a machine should not share ids. */
export function uidBaseOf(installationId: string): number {
  const hash = createHash('sha256').update(installationId).digest().readUInt32BE(0);
  return firstBlock + (hash % blocks) * uidsPerInstallation;
}

/** User ids of kernels. They are handed out in a ring, so that one comes back as late as possible. */
export class UidPool {
  readonly #base: number;
  readonly #size: number;
  readonly #taken = new Set<number>();
  #next = 0;

  constructor(base: number, size: number = uidsPerInstallation) {
    this.#base = base;
    this.#size = size;
  }

  /** @throws AppError `insufficient-capacity` */
  allocate(): number {
    for (let tries = 0; tries < this.#size; tries++) {
      const uid = this.#base + this.#next;
      this.#next = (this.#next + 1) % this.#size;
      if (this.#taken.has(uid)) continue;
      this.#taken.add(uid);
      return uid;
    }
    throw new AppError('insufficient-capacity', 'This agent has no user id left for another kernel.', {
      data: { limit: this.#size },
    });
  }

  /** Whether it is one of these, and taken. */
  has(uid: number): boolean {
    return this.#taken.has(uid);
  }

  /** One that a kernel found after a restart has. */
  take(uid: number): void {
    this.#taken.add(uid);
  }

  /** Only after no process and no file of it is left. */
  release(uid: number): void {
    this.#taken.delete(uid);
  }

  get taken(): number {
    return this.#taken.size;
  }
}
