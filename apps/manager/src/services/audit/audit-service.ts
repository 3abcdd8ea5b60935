import { type AuditApi, type AuditView, type CallContext, scopeOf } from '@backend.ai/contract';
import type { AuditRecord, AuditRepository } from '../../repositories/audit.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';

/** Looking at the log: users see what they did, domain admins also what was done in their domain. */
export class AuditService implements AuditApi {
  readonly #audit: AuditRepository;

  constructor(audit: AuditRepository) {
    this.#audit = audit;
  }

  async list(input: Parameters<AuditApi['list']>[0], ctx: CallContext): Promise<{ items: AuditView[]; total: number }> {
    const { user, action = null, targetKind = null, targetId = null, requestId = null, limit, offset } = input;
    const scope = scopeOf(actorOf(ctx), 'audit:read');
    const email = user?.toLowerCase() ?? null;
    const filter = { scope, email, action, targetKind, targetId, requestId, limit, offset };
    const { records, total } = await this.#audit.list(filter);
    return { items: records.map(toView), total };
  }
}

function toView({ targetKind, targetId, domainName, ...record }: AuditRecord): AuditView {
  return { ...record, at: toIso(record.at), target: { kind: targetKind, id: targetId, domain: domainName } };
}
