import { AppError, type Clock, delay } from '@backend.ai/core';
import type { InstallationKeyRepository, ManagerKeys } from '../../repositories/installation-keys.ts';
import type { SecretCount, SecretKind, StoredSecretRepository } from '../../repositories/stored-secrets.ts';
import { toIso } from '../sessions/session-view.ts';
import {
  appendInstallationKey,
  dropInstallationKeys,
  findInstallationKeys,
  type InstallationKey,
  readInstallationKeys,
} from './key-file.ts';
import { reencrypt } from './reencrypt.ts';
import { type KeyFacts, type KeyState, lackingIt, missedBy, newestOf, notUsingIt, stateOf } from './rotation.ts';
import { SecretBox } from './secret-box.ts';

export interface InstallationKeyView {
  readonly id: string;
  readonly state: KeyState;
  /** When it began to encrypt; null: it has not, or was the first one. */
  readonly since: string | null;
  /** Whether the key file of this machine has it. */
  readonly inFile: boolean;
  /** How many secrets are encrypted by it. */
  readonly secrets: Readonly<Record<SecretKind, number>>;
  /** Managers that have it. */
  readonly managers: readonly string[];
}

export interface InstallationKeysView {
  /** The key file of this machine. */
  readonly file: string;
  readonly keys: readonly InstallationKeyView[];
  /** Managers that have told nothing of their keys: they run an earlier version, or have not started since. */
  readonly unknown: readonly string[];
}

export interface AddedKey {
  readonly id: string;
  readonly file: string;
  /** False: it was there already, and still encrypts nothing. */
  readonly made: boolean;
  /** All that must have it before it can encrypt. */
  readonly managers: readonly string[];
}

export interface Reencrypted {
  /** The key under which all secrets are now. */
  readonly id: string;
  readonly moved: number;
}

export interface RemovedKeys {
  readonly file: string;
  readonly removed: readonly string[];
  /** Of several managers those that had an old key when they last looked at their file. */
  readonly managers: readonly string[];
}

export interface InstallationKeyServiceOptions {
  /** The key file of this machine. */
  readonly file: string;
  readonly keys: InstallationKeyRepository;
  readonly secrets: StoredSecretRepository;
  readonly clock: Clock;
  /** How long to wait for managers, which look at their files now and then. */
  readonly patienceMs?: number;
}

const askEveryMs = 250;

/**
 * Rotation of the key that encrypts secrets: `add`, the file is brought to all managers, `reencrypt`, `removeOld`. Each
 * can be cut off anywhere and done again, and refuses as long as a manager would be harmed.
 */
export class InstallationKeyService {
  readonly #options: InstallationKeyServiceOptions;

  constructor(options: InstallationKeyServiceOptions) {
    this.#options = options;
  }

  async show(): Promise<InstallationKeysView> {
    const { file, secrets } = this.#options;
    const [facts, counts] = await Promise.all([this.#facts(), secrets.countByKey()]);
    const inFile = ((await findInstallationKeys(file)) ?? []).map(({ id }) => id);
    const { generations, managers } = facts;
    const had = managers.flatMap(({ told }) => told?.ids ?? []);
    const used = counts.map(({ keyId }) => keyId);
    const order = [...generations.map(({ id }) => id), ...inFile, ...had, ...used];
    const present = new Set([facts.current, ...inFile, ...had, ...used]);
    const keys = [...new Set(order)].filter((id) => present.has(id));
    return {
      file,
      keys: keys.map((id) => {
        const since = generations.find((generation) => generation.id === id)?.since ?? null;
        return {
          ...{ id, state: stateOf(id, facts), since: since === null ? null : toIso(since) },
          inFile: inFile.includes(id),
          secrets: countsOf(id, counts),
          managers: managers.flatMap((manager) => (manager.told?.ids.includes(id) ? manager.id : [])),
        };
      }),
      unknown: managers.flatMap(({ id, told }) => (told === null ? id : [])),
    };
  }

  /** @throws AppError `state-conflict` when another manager has a next key, or there is no key yet; `config-invalid` */
  async add(): Promise<AddedKey> {
    const { file, keys } = this.#options;
    const facts = await this.#facts();
    return await keys.alone(async () => {
      const { newest } = await this.#file(facts);
      const made = newest === facts.current;
      const id = made ? (await appendInstallationKey(file)).id : newest;
      return { id, file, made, managers: facts.managers.map((manager) => manager.id) };
    });
  }

  /**
   * Lets the newest key of the file encrypt, and moves everything to it.
   * @throws AppError `state-conflict` as long as a manager lacks it or encrypts by another one; `config-invalid`
   */
  async reencrypt(): Promise<Reencrypted> {
    const { file, keys, secrets } = this.#options;
    const facts = await this.#facts();
    const { found, newest } = await this.#file(facts);
    if (newest !== facts.current) {
      await this.#until((managers) => lackingIt(newest, managers), 'do not have the new key yet', file);
      await keys.promote(newest, facts.current, async () => {
        new SecretBox(await readInstallationKeys(file), newest, file);
      });
    }
    const box = new SecretBox(found, newest, file);
    const moved = await reencrypt(secrets, box);
    await this.#until(
      (managers) => notUsingIt(newest, managers),
      'have not told that they encrypt by the new key',
      file,
    );
    return { id: newest, moved: moved + (await reencrypt(secrets, box)) };
  }

  /** @throws AppError `state-conflict` as long as an old key is needed; `config-invalid` */
  async removeOld(): Promise<RemovedKeys> {
    const { file, keys, secrets } = this.#options;
    const facts = await this.#facts();
    const old = (ids: readonly string[]): string[] => ids.filter((id) => stateOf(id, facts) === 'old');
    const { found } = await this.#file(facts);
    const removed = old(found.map(({ id }) => id));
    if (removed.length > 0) {
      await this.#until(
        (managers) => notUsingIt(facts.current, managers),
        'have not told that they encrypt by the new key',
        file,
      );
      const left = (await secrets.countByKey()).filter(({ keyId }) => removed.includes(keyId));
      if (left.length > 0) {
        const count = left.reduce((sum, each) => sum + each.count, 0);
        throw new AppError('state-conflict', `${count} secrets are still encrypted by ${removed.join(', ')}.`, {
          hint: 'Move them first: ./backend.ai mgr installation-key reencrypt',
        });
      }
      await keys.alone(() => dropInstallationKeys(file, new Set(removed)));
    }
    // A single manager looks at this file.
    const others = facts.managers.length > 1 ? facts.managers : [];
    const managers = others.filter(({ told }) => told !== null && old(told.ids).length > 0);
    return { file, removed, managers: managers.map(({ id }) => id) };
  }

  async #facts(): Promise<KeyFacts> {
    const { keys } = this.#options;
    const [generations, managers] = await Promise.all([keys.generations(), keys.managers()]);
    const current = generations.at(-1)?.id;
    if (current !== undefined) return { current, generations, managers };
    throw new AppError('state-conflict', 'This installation has no key yet, because it has no secrets.', {
      hint: 'Its first manager makes one when it starts: ./backend.ai mgr start-server',
    });
  }

  /** What this machine has, when it has what the others have. */
  async #file(facts: KeyFacts): Promise<{ readonly found: readonly InstallationKey[]; readonly newest: string }> {
    const { file } = this.#options;
    const found = await readInstallationKeys(file);
    new SecretBox(found, facts.current, file);
    const ids = found.map(({ id }) => id);
    const missed = missedBy(ids, facts);
    if (missed === undefined) return { found, newest: newestOf(ids, facts) };
    const { id, manager } = missed;
    throw new AppError('state-conflict', `The manager "${manager}" has a new key, ${id}, which is not in ${file}`, {
      hint: 'Copy its key file to this place, or do this on its machine.',
    });
  }

  /** @throws AppError `state-conflict` with those that are still late when patience ends */
  async #until(late: (managers: readonly ManagerKeys[]) => string[], what: string, file: string): Promise<void> {
    const { keys, clock, patienceMs = 20_000 } = this.#options;
    const end = clock.monotonic() + patienceMs;
    for (;;) {
      const ids = late(await keys.managers());
      if (ids.length === 0) return;
      if (clock.monotonic() >= end) {
        throw new AppError('state-conflict', `These managers ${what}: ${ids.join(', ')}.`, {
          hint:
            `Copy ${file} to their place, start those that do not run, and run this again. ` +
            'Of one that is gone for good: ./backend.ai mgr peers revoke ID',
        });
      }
      await delay(clock, askEveryMs);
    }
  }
}

function countsOf(id: string, counts: readonly SecretCount[]): Record<SecretKind, number> {
  const of = (kind: SecretKind): number =>
    counts.find((count) => count.keyId === id && count.kind === kind)?.count ?? 0;
  return { keypair: of('keypair'), cluster: of('cluster'), registry: of('registry') };
}
