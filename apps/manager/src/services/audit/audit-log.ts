import type { Action, UserActor } from '@backend.ai/contract';
import { type AccessKey, AppError, newId, type UserId } from '@backend.ai/core';
import type { Transaction } from '@backend.ai/database';
import { type Logger, requireRequestId } from '@backend.ai/telemetry';
import { type AuditEntry, type AuditRepository, operatorId, operatorName } from '../../repositories/audit.ts';

/** What an action is about. */
export interface AuditTarget {
  /** A noun of the table of actions, such as `user`. */
  readonly kind: string;
  readonly id: string;
  /** Null: it belongs to no domain. */
  readonly domain: string | null;
}

export interface AuditedChange {
  readonly actor: Pick<UserActor, 'userId' | 'accessKey' | 'by'>;
  readonly action: Action | `operator:${string}`;
  readonly target: AuditTarget;
  /** What was asked for. Texts under names that speak of passwords or secrets are left out. */
  readonly changes?: Readonly<Record<string, unknown>>;
}

/** Whoever may use the stores themselves, which are no user's: `mgr` commands. */
export const operatorActor = { userId: operatorId as UserId, accessKey: operatorName as AccessKey };

/** Every change through the API goes through here: it and its row in the log are one transaction or one statement. */
export class AuditLog {
  readonly #audit: AuditRepository;
  readonly #logger: Logger;

  constructor(audit: AuditRepository, logger: Logger) {
    this.#audit = audit;
    this.#logger = logger;
  }

  /**
   * Runs `work` in a transaction that also writes the row. What `work` throws is recorded as a failure, after all that
   * it did was undone. `work` uses the transaction and nothing else of the database.
   */
  async change<T>(change: AuditedChange, work: (tx: Transaction) => Promise<T>): Promise<T> {
    try {
      return await this.#audit.transaction(async (tx) => {
        const result = await work(tx);
        await this.#audit.write(entryOf(change, null), tx);
        return result;
      });
    } catch (thrown) {
      await this.failed(change, thrown);
      throw thrown;
    }
  }

  /**
   * As `change`, for work that has transactions of its own: its row is written as soon as the work is done.
   * @param learned What else was changed, as the work tells
   */
  async around<T>(
    change: AuditedChange,
    work: () => Promise<T>,
    learned?: (result: T) => AuditedChange['changes'],
  ): Promise<T> {
    let result: T;
    try {
      result = await work();
    } catch (thrown) {
      await this.failed(change, thrown);
      throw thrown;
    }
    await this.record({ ...change, changes: { ...change.changes, ...learned?.(result) } });
    return result;
  }

  /** What was done and undoes nothing any more. */
  async record(change: AuditedChange): Promise<void> {
    await this.#audit.write(entryOf(change, null));
  }

  /** As `change`, for work that is one statement: it is given the row, and writes it if it changes anything. */
  async within<T>(change: AuditedChange, work: (entry: AuditEntry) => Promise<T>): Promise<T> {
    try {
      return await work(entryOf(change, null));
    } catch (thrown) {
      await this.failed(change, thrown);
      throw thrown;
    }
  }

  /** The row of what was done in another way than by one statement. */
  async write(entry: AuditEntry): Promise<void> {
    await this.#audit.write(entry);
  }

  /** Records an attempt that changed nothing. */
  async failed(change: AuditedChange, thrown: unknown): Promise<void> {
    try {
      await this.#audit.write(entryOf(change, AppError.from(thrown).code));
    } catch (error) {
      // The caller's own failure says more than that of its record.
      this.#logger.error('failed change not recorded', { action: change.action, error });
    }
  }
}

function entryOf({ actor, action, target, changes = {} }: AuditedChange, errorCode: string | null): AuditEntry {
  const caller = actor.by ?? actor;
  return {
    id: newId(),
    requestId: requireRequestId(),
    userId: caller.userId,
    accessKey: caller.accessKey,
    actingFor: actor.by === undefined ? null : actor.accessKey,
    action,
    targetKind: target.kind,
    targetId: target.id,
    domainName: target.domain,
    outcome: errorCode === null ? 'done' : 'failed',
    errorCode,
    changes: withoutSecrets(changes) as Record<string, unknown>,
  };
}

/** Texts under such names are replaced, however deep they are; what is absent stays so. */
export function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([name, item]) => [
        name,
        typeof item === 'string' && /password|secret|private/i.test(name) ? '(not kept)' : withoutSecrets(item),
      ]),
  );
}
