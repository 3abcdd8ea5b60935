import { type Action, allow, isWithin, type Scope, scopeOf, type Target, type UserActor } from '@backend.ai/contract';
import { AppError, amountToText, isHigherRole, parseResourceSlots, type UserRole } from '@backend.ai/core';
import { sqlStateOf, sqlStates, type Transaction } from '@backend.ai/database';
import { hasSuperadmin, liveSessionsOf, lockTenants, type TenantOfSessions } from '../../repositories/tenant-guards.ts';
import type { AuditedChange, AuditLog, AuditTarget } from '../audit/audit-log.ts';

/** For looking again at what was changed, whoever changed it. */
export const everything: Scope = { extent: 'all', userId: '', domain: '' };

/** What says how much a tenant may use. Absent: it stays as it is, or is what everybody gets. */
export interface Limits {
  readonly resourcePolicy?: string | undefined;
  readonly rateLimit?: number | undefined;
  readonly totalResourceSlots?: Readonly<Record<string, string>> | undefined;
}

/** How tenants change: one at a time, recorded, never without a superadmin afterwards, and every manager hears of it. */
export class TenantChanges {
  readonly #audit: AuditLog;
  readonly #announce: () => void;

  constructor(audit: AuditLog, announce: () => void) {
    this.#audit = audit;
    this.#announce = announce;
  }

  /** What comes before a change: finding what is meant, and whether it may be done. A refusal is in the log, too. */
  async permitted<T>(change: AuditedChange, look: () => Promise<T>): Promise<T> {
    return await this.#audit.within(change, look);
  }

  /** @throws AppError `last-superadmin`, `object-not-found`, `object-exists`, and what `work` throws */
  async run<T>(change: AuditedChange, work: (tx: Transaction) => Promise<T>): Promise<T> {
    const result = await this.#audit.change(change, async (tx) => {
      await lockTenants(tx);
      const made = await work(tx).catch(explainViolation);
      if (!(await hasSuperadmin(tx)))
        throw new AppError('last-superadmin', 'Nobody could administer the cluster after this.');
      return made;
    });
    this.#announce();
    return result;
  }
}

function explainViolation(cause: unknown): never {
  switch (sqlStateOf(cause)) {
    case sqlStates.foreignKeyViolation:
      throw new AppError('object-not-found', 'A domain or resource policy that is named does not exist.', { cause });
    case sqlStates.uniqueViolation:
      throw new AppError('object-exists', 'The name is taken.', { cause });
    default:
      throw cause;
  }
}

/** What a change is about before it is found. */
export function sought(kind: string, ref: string): AuditTarget {
  return { kind, id: ref, domain: null };
}

/** What may not be seen is not there; what may only be seen is forbidden. @throws AppError `object-not-found` */
export function seen<T>(found: T | undefined, noun: string, ref: string): T {
  if (found === undefined) throw new AppError('object-not-found', `There is no ${noun} "${ref}".`);
  return found;
}

/** @throws AppError `forbidden` */
export function permit(actor: UserActor, action: Action, target: Target): void {
  if (!allow(actor, action, target))
    throw new AppError('forbidden', 'This is not within your rights.', { data: { action } });
}

/** As `permit`, for what is put into a domain rather than owned. @throws AppError `forbidden` */
export function permitDomain(actor: UserActor, action: Action, domain: string): void {
  if (!isWithin(scopeOf(actor, action), { domain }))
    throw new AppError('forbidden', `The domain "${domain}" is not yours to administer.`, { data: { action } });
}

/** Nobody changes, or makes, somebody of a higher role. @throws AppError `forbidden` */
export function permitRole(actor: UserActor, role: UserRole): void {
  if (isHigherRole(role, actor.role))
    throw new AppError('forbidden', `Only a ${role} may do this with a ${role}.`, { data: { role } });
}

/** How much a tenant may use is for operators to say, also where others administer it. @throws AppError `forbidden` */
export function permitLimits(actor: UserActor, values: Limits): void {
  const { resourcePolicy, rateLimit, totalResourceSlots } = values;
  if ((resourcePolicy ?? rateLimit ?? totalResourceSlots) !== undefined) permit(actor, 'resource-policy:assign', {});
}

/** @throws AppError `has-sessions` naming the oldest few */
export async function refuseLiveSessions(tx: Transaction, tenant: TenantOfSessions, what: string): Promise<void> {
  const { count, sessions } = await liveSessionsOf(tx, tenant);
  if (count === 0) return;
  const names = sessions.map(({ id, name }) => `${name} (${id})`).join(', ');
  const more = count > sessions.length ? ` and ${count - sessions.length} more` : '';
  throw new AppError('has-sessions', `${what} has live sessions: ${names}${more}.`, { data: { count, sessions } });
}

/** Amounts in plain numbers: `16g` is bytes. A limit of 0 stays one. @throws AppError `invalid-input` */
export function limitTexts(amounts: Readonly<Record<string, string>> | undefined): Record<string, string> | undefined {
  if (amounts === undefined) return undefined;
  return Object.fromEntries(
    Object.entries(amounts).map(([name, amount]) => [
      name,
      amountToText(parseResourceSlots({ [name]: amount })[name] ?? 0n),
    ]),
  );
}
