import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { AppError } from '@backend.ai/core';
import { isDiskFull } from '../files/disk-full.ts';
import { replaceFileSync } from '../files/replace-file.ts';

interface StoredState {
  readonly installationId: string;
  readonly epoch: number;
  /** Of managers, as managers have told. Absent until one did. */
  readonly managerKeys?: readonly string[];
  /** SHA-256 in hex of the join token that the agent last had when managers told their keys. */
  readonly usedToken?: string;
  /** The access key of `admitOnly`. */
  readonly onlyOwner?: string;
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
  #usedToken: string | undefined;
  #onlyOwner: string | undefined;
  /** The disk did not take what changed last: it is offered again with the next order. */
  #unsaved = false;

  private constructor(path: string, stored: StoredState) {
    this.#path = path;
    this.installationId = stored.installationId;
    this.#epoch = stored.epoch;
    this.#managerKeys = stored.managerKeys ?? [];
    this.#usedToken = stored.usedToken;
    this.#onlyOwner = stored.onlyOwner;
  }

  static open(path: string): AgentState {
    if (existsSync(path)) return new AgentState(path, JSON.parse(readFileSync(path, 'utf8')) as StoredState);
    const state = new AgentState(path, { installationId: randomBytes(6).toString('hex'), epoch: 0 });
    state.#save();
    if (state.#unsaved) throw new AppError('disk-full', 'The disk is full: the agent cannot begin on it.');
    return state;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Public keys of the managers, as one of them told last. */
  get managerKeys(): readonly string[] {
    return this.#managerKeys;
  }

  /**
   * All of them: one that is no longer named has been revoked. They come from a manager that accepted the agent, so the
   * token it has is used: the keys in it say nothing any more.
   */
  keepManagerKeys(keys: readonly string[], joinToken: string | undefined): void {
    const sorted = [...keys].sort();
    const known = this.#managerKeys;
    const usedToken = joinToken === undefined ? this.#usedToken : hashOf(joinToken);
    if (sorted.join() === known.join() && usedToken === this.#usedToken) return;
    // None of those it knew: the installation was made anew, and its epochs begin again.
    if (known.length > 0 && !sorted.some((key) => known.includes(key))) this.#epoch = 0;
    this.#managerKeys = sorted;
    this.#usedToken = usedToken;
    this.#save();
  }

  /** Whether managers have told their keys since the agent got this token. */
  hasUsed(joinToken: string): boolean {
    return this.#usedToken === hashOf(joinToken);
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
    if (shown === this.#epoch && !this.#unsaved) return;
    this.#epoch = shown;
    this.#save();
  }

  /**
   * Where nothing keeps programs apart, those of one key pair may run: they can read what belongs to the agent and to each
   * other, also after the end of a session. It is the owner of the installation where that is told, otherwise whoever
   * came first, for good.
   * @throws AppError `isolation-unavailable`
   */
  admitOnly(accessKey: string, installationOwner: string | undefined): void {
    if (installationOwner === undefined && this.#onlyOwner === undefined) {
      this.#onlyOwner = accessKey;
      this.#save();
    }
    if (accessKey === (installationOwner ?? this.#onlyOwner)) return;
    throw new AppError(
      'isolation-unavailable',
      'Nothing keeps programs apart on this agent, so that it runs those of one key pair only, and this is another.',
      { hint: 'See what is missing with: ./backend.ai doctor (bubblewrap, for example, is one package).' },
    );
  }

  #save(): void {
    const stored: StoredState = {
      installationId: this.installationId,
      epoch: this.#epoch,
      managerKeys: this.#managerKeys,
      ...(this.#usedToken === undefined ? {} : { usedToken: this.#usedToken }),
      ...(this.#onlyOwner === undefined ? {} : { onlyOwner: this.#onlyOwner }),
    };
    try {
      replaceFileSync(this.#path, JSON.stringify(stored));
      this.#unsaved = false;
    } catch (error) {
      // Orders that end kernels make room again: they are not refused.
      if (!isDiskFull(error)) throw error;
      this.#unsaved = true;
    }
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
