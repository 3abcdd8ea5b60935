import { type CallContext, type DomainAdminApi, type DomainView, scopeOf, type UserActor } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { DomainRecord, DomainRepository } from '../../repositories/domains.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import { limitTexts, permit, refuseLiveSessions, seen, sought, type TenantChanges } from './tenant-changes.ts';

type Input<Method extends keyof DomainAdminApi> = Parameters<DomainAdminApi[Method]>[0];

export class DomainService implements DomainAdminApi {
  readonly #domains: DomainRepository;
  readonly #changes: TenantChanges;

  constructor(domains: DomainRepository, changes: TenantChanges) {
    this.#domains = domains;
    this.#changes = changes;
  }

  async list({ limit, offset }: Input<'list'>, ctx: CallContext): Promise<{ items: DomainView[]; total: number }> {
    const { records, total } = await this.#domains.list(scopeOf(actorOf(ctx), 'domain:read'), limit, offset);
    return { items: records.map(toView), total };
  }

  async get({ name }: Input<'get'>, ctx: CallContext): Promise<DomainView> {
    return toView(await this.#see(name, actorOf(ctx)));
  }

  async create({ name, ...values }: Input<'create'>, ctx: CallContext): Promise<DomainView> {
    const actor = actorOf(ctx);
    permit(actor, 'domain:create', { domain: name });
    const totalResourceSlots = limitTexts(values.totalResourceSlots);
    const change = { actor, action: 'domain:create', target: targetOf(name), changes: values } as const;
    await this.#changes.run(change, async (tx) => {
      if (!(await this.#domains.insert(tx, name, { ...values, totalResourceSlots })))
        throw new AppError('object-exists', `There is a domain "${name}" already.`);
    });
    return await this.get({ name }, ctx);
  }

  async modify({ name, ...values }: Input<'modify'>, ctx: CallContext): Promise<DomainView> {
    const actor = await this.#permit(name, 'domain:modify', ctx, values);
    const totalResourceSlots = limitTexts(values.totalResourceSlots);
    await this.#changes.run({ actor, action: 'domain:modify', target: targetOf(name), changes: values }, async (tx) => {
      if (values.isActive === false) await refuseLiveSessions(tx, { domain: name }, `The domain "${name}"`);
      await this.#domains.update(tx, name, { ...values, totalResourceSlots });
    });
    return await this.get({ name }, ctx);
  }

  async delete({ name }: Input<'delete'>, ctx: CallContext): Promise<void> {
    const actor = await this.#permit(name, 'domain:delete', ctx);
    await this.#changes.run({ actor, action: 'domain:delete', target: targetOf(name) }, async (tx) => {
      await refuseLiveSessions(tx, { domain: name }, `The domain "${name}"`);
      await this.#domains.update(tx, name, { isActive: false });
    });
  }

  async purge({ name }: Input<'purge'>, ctx: CallContext): Promise<void> {
    const actor = await this.#permit(name, 'domain:purge', ctx);
    await this.#changes.run({ actor, action: 'domain:purge', target: targetOf(name) }, async (tx) => {
      await refuseLiveSessions(tx, { domain: name }, `The domain "${name}"`);
      const { users, projects } = await this.#domains.countDependents(tx, name);
      if (users + projects > 0) {
        const message = `The domain "${name}" has ${users} users (deleted ones count) and ${projects} projects.`;
        throw new AppError('has-dependents', message, { hint: 'Purge them first.', data: { users, projects } });
      }
      await this.#domains.remove(tx, name);
    });
  }

  async #permit(
    name: string,
    action: 'domain:modify' | 'domain:delete' | 'domain:purge',
    ctx: CallContext,
    changes: Readonly<Record<string, unknown>> = {},
  ): Promise<UserActor> {
    const actor = actorOf(ctx);
    await this.#changes.permitted({ actor, action, target: sought('domain', name), changes }, async () => {
      await this.#see(name, actor);
      permit(actor, action, { domain: name });
    });
    return actor;
  }

  async #see(name: string, actor: UserActor): Promise<DomainRecord> {
    const { extent, domain } = scopeOf(actor, 'domain:read');
    const isVisible = extent === 'all' || domain === name;
    return seen(isVisible ? await this.#domains.find(name) : undefined, 'domain', name);
  }
}

function targetOf(name: string) {
  return { kind: 'domain', id: name, domain: name };
}

function toView(record: DomainRecord): DomainView {
  return { ...record, createdAt: toIso(record.createdAt), modifiedAt: toIso(record.modifiedAt) };
}
