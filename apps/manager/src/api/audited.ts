import type { Action, CallContext } from '@backend.ai/contract';
import type { AuditLog } from '../services/audit/audit-log.ts';
import { actorOf } from '../services/sessions/session-service.ts';

type Method = (input: never, ctx: CallContext) => Promise<unknown>;

/**
 * The same API, whose changes leave a row in the audit log, also those that were refused: all its methods but those that
 * only read.
 * @param kind The noun; the name or id in the input says which of them.
 */
export function audited<Api extends object>(audit: AuditLog, kind: string, action: Action, api: Api): Api {
  return new Proxy(api, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== 'function' || name === 'list' || name === 'get') {
        return typeof method === 'function' ? method.bind(target) : method;
      }
      return async (
        input: { name?: string; id?: string; image?: string; alias?: string },
        ctx: CallContext,
      ): Promise<unknown> =>
        await audit.around(
          {
            actor: actorOf(ctx),
            action,
            target: { kind, id: input.name ?? input.id ?? input.image ?? input.alias ?? '', domain: null },
            changes: { [String(name)]: input },
          },
          async () => await (method as Method).call(target, input as never, ctx),
        );
    },
  });
}
