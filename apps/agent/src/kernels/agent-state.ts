import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { AppError } from '@backend.ai/core';
import { replaceFileSync } from '../files/replace-file.ts';

interface StoredState {
  readonly installationId: string;
  readonly epoch: number;
  /** Of managers, as managers have told. Absent until one did. */
  readonly managerKeys?: readonly string[];
}

/**
 * What an agent remembers besides its kernels and events: who it is on this machine, whose orders it takes, and the
 * highest epoch seen.
 */
export class AgentState {
  readonly #path: string;
  /** Stands on everything this agent makes (processes, cgroups), so that it never touches another one's. */
  readonly installationId: string;
  #epoch: number;
  #managerKeys: readonly string[];

  private constructor(path: string, stored: StoredState) {
    this.#path = path;
    this.installationId = stored.installationId;
    this.#epoch = stored.epoch;
    this.#managerKeys = stored.managerKeys ?? [];
  }

  static open(path: string): AgentState {
    if (existsSync(path)) return new AgentState(path, JSON.parse(readFileSync(path, 'utf8')) as StoredState);
    const state = new AgentState(path, { installationId: randomBytes(6).toString('hex'), epoch: 0 });
    state.#save();
    return state;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Public keys of the managers, as one of them told last. */
  get managerKeys(): readonly string[] {
    return this.#managerKeys;
  }

  /** All of them: one that is no longer named has been revoked. */
  keepManagerKeys(keys: readonly string[]): void {
    const sorted = [...keys].sort();
    if (sorted.join() === this.#managerKeys.join()) return;
    this.#managerKeys = sorted;
    this.#save();
  }

  /**
   * Lets the present leader and its successors pass. Once a leader has shown an epoch, a call without one is as old.
   * @throws AppError `stale-epoch`
   */
  admitEpoch(epoch: number | undefined): void {
    const shown = epoch ?? 0;
    if (shown < this.#epoch) {
      throw new AppError('stale-epoch', 'This order comes from a manager that no longer leads.', {
        data: { epoch: shown, highest: this.#epoch },
      });
    }
    if (shown === this.#epoch) return;
    this.#epoch = shown;
    this.#save();
  }

  #save(): void {
    const stored: StoredState = {
      installationId: this.installationId,
      epoch: this.#epoch,
      managerKeys: this.#managerKeys,
    };
    replaceFileSync(this.#path, JSON.stringify(stored));
  }
}
