import {
  type Action,
  type CallContext,
  type NewKeypair,
  scopeOf,
  type UserActor,
  type UserAdminApi,
  type UserView,
} from '@backend.ai/contract';
import { AppError, newId } from '@backend.ai/core';
import type { Transaction } from '@backend.ai/database';
import type { DomainRepository } from '../../repositories/domains.ts';
import type { KeypairAdministration } from '../../repositories/keypair-administration.ts';
import type { ProjectRepository } from '../../repositories/projects.ts';
import type { UserRecord, UserRepository } from '../../repositories/users.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import type { KeypairAdminService } from './keypair-admin-service.ts';
import { hashPassword, isPassword } from './password.ts';
import type { PasswordAttempts } from './password-attempts.ts';
import {
  everything,
  permit,
  permitDomain,
  permitLimits,
  permitRole,
  refuseLiveSessions,
  seen,
  sought,
  type TenantChanges,
} from './tenant-changes.ts';

export interface UserServiceOptions {
  readonly users: UserRepository;
  readonly domains: DomainRepository;
  readonly projects: ProjectRepository;
  readonly keypairs: KeypairAdministration;
  readonly keypairService: KeypairAdminService;
  readonly changes: TenantChanges;
  readonly passwordAttempts: PasswordAttempts;
}

type Input<Method extends keyof UserAdminApi> = Parameters<UserAdminApi[Method]>[0];

export class UserService implements UserAdminApi {
  readonly #options: UserServiceOptions;

  constructor(options: UserServiceOptions) {
    this.#options = options;
  }

  async list(input: Input<'list'>, ctx: CallContext): Promise<{ items: UserView[]; total: number }> {
    const { domain = null, project = null, status = null, role = null, limit, offset } = input;
    const scope = scopeOf(actorOf(ctx), 'user:read');
    const { records, total } = await this.#options.users.list({ scope, domain, project, status, role, limit, offset });
    return { items: records.map(toView), total };
  }

  async get({ user }: Input<'get'>, ctx: CallContext): Promise<UserView> {
    return toView(await this.#see(user, actorOf(ctx)));
  }

  async create(input: Input<'create'>, ctx: CallContext): Promise<{ user: UserView } & NewKeypair> {
    const { users, projects, domains, keypairService, changes } = this.#options;
    const actor = actorOf(ctx);
    const { email, password, domain = actor.domain, projects: names, ...values } = input;
    const role = values.role ?? 'user';
    const id = newId();
    const target = { kind: 'user', id, domain };
    const change = { actor, action: 'user:create', target, changes: input } as const;
    await changes.permitted(change, async () => {
      permitDomain(actor, 'user:create', domain);
      permitRole(actor, role);
    });
    const keypair = keypairService.prepare(id, { isAdmin: role !== 'user' });
    const passwordHash = password === undefined ? undefined : await hashPassword(password);
    await changes.run(change, async (tx) => {
      permitLimits(actor, values);
      seen(await domains.find(domain, tx), 'domain', domain);
      const user = { id, email, username: values.username ?? email, domain };
      if (!(await users.insert(tx, user, { ...values, role, passwordHash })))
        throw new AppError('object-exists', `There is a user "${email}" already.`, {
          hint: 'A deleted user keeps the address until it is purged: ./backend.ai admin user purge',
        });
      for (const name of names) {
        const project = seen(await projects.find(name, domain, everything, tx), 'project', name);
        if (project.domain !== domain) seen(undefined, `project of ${domain}`, name);
        await projects.addMembers(tx, project.id, [id]);
      }
      await keypair.insert(tx);
    });
    return {
      user: await this.#view(id),
      keypair: await keypairService.view(keypair.accessKey),
      secretKey: keypair.secretKey,
    };
  }

  async modify(input: Input<'modify'>, ctx: CallContext): Promise<UserView> {
    const { users, domains, keypairs } = this.#options;
    const { user: ref, password, domain, ...values } = input;
    const passwordHash = password === undefined ? undefined : await hashPassword(password);
    return await this.#change(ref, ctx, 'user:modify', { ...values, domain, password }, async (tx, user, actor) => {
      if (values.role !== undefined) permitRole(actor, values.role);
      permitLimits(actor, values);
      if (domain !== undefined && domain !== user.domain) {
        permitDomain(actor, 'user:modify', domain);
        seen(await domains.find(domain, tx), 'domain', domain);
        await refuseLiveSessions(tx, { userId: user.id }, `The user "${user.email}"`);
        await users.leaveProjects(tx, user.id);
      }
      const statusReason = values.status === undefined ? undefined : 'user:modify';
      await users.update(tx, user.id, { ...values, domain, passwordHash, statusReason });
      // Key pairs that were made for the rights of an ordinary user keep to those.
      if (values.role === 'user') await keypairs.updateAll(tx, user.id, { isAdmin: false });
      else if (values.role !== undefined && user.role === 'user' && user.mainAccessKey !== null)
        await keypairs.update(tx, user.mainAccessKey, { isAdmin: true });
    });
  }

  async changePassword({ oldPassword, newPassword }: Input<'changePassword'>, ctx: CallContext): Promise<void> {
    const { users, changes, passwordAttempts } = this.#options;
    const actor = actorOf(ctx);
    const target = { kind: 'user', id: actor.userId, domain: actor.domain };
    const change = { actor, action: 'user:change-password', target } as const;
    await changes.permitted(change, async () => {
      if (actor.by) throw new AppError('forbidden', 'Only users themselves change their passwords this way.');
      const stored = await users.passwordHash(actor.userId);
      const isRight = async () => stored === null || (oldPassword !== undefined && isPassword(oldPassword, stored));
      if (!(await passwordAttempts.try(actor.userId, isRight)))
        throw new AppError('invalid-input', 'The old password is wrong.', {
          data: { fields: { oldPassword: 'is wrong' } },
        });
    });
    const passwordHash = await hashPassword(newPassword);
    await changes.run(change, (tx) => users.update(tx, actor.userId, { passwordHash, needPasswordChange: false }));
  }

  async delete({ user: ref }: Input<'delete'>, ctx: CallContext): Promise<void> {
    const { users, keypairs } = this.#options;
    await this.#change(ref, ctx, 'user:delete', {}, async (tx, user) => {
      await refuseLiveSessions(tx, { userId: user.id }, `The user "${user.email}"`);
      await users.update(tx, user.id, { status: 'deleted', statusReason: 'user:delete' });
      await keypairs.updateAll(tx, user.id, { isActive: false });
    });
  }

  async purge({ user: ref }: Input<'purge'>, ctx: CallContext): Promise<void> {
    const { users } = this.#options;
    await this.#run(ref, ctx, 'user:purge', {}, async (tx, user) => {
      await refuseLiveSessions(tx, { userId: user.id }, `The user "${user.email}"`);
      await users.remove(tx, user.id);
    });
  }

  async #change(
    ref: string,
    ctx: CallContext,
    action: Action,
    changes: Readonly<Record<string, unknown>>,
    work: (tx: Transaction, user: UserRecord, actor: UserActor) => Promise<void>,
  ): Promise<UserView> {
    return await this.#view(await this.#run(ref, ctx, action, changes, work));
  }

  /** Answers the id. */
  async #run(
    ref: string,
    ctx: CallContext,
    action: Action,
    changes: Readonly<Record<string, unknown>>,
    work: (tx: Transaction, user: UserRecord, actor: UserActor) => Promise<void>,
  ): Promise<string> {
    const actor = actorOf(ctx);
    const attempt = { actor, action, target: sought('user', ref), changes };
    const { id, domain } = await this.#options.changes.permitted(attempt, async () => {
      const found = await this.#see(ref, actor);
      permit(actor, action, { userId: found.id, domain: found.domain });
      return found;
    });
    const target = { kind: 'user', id, domain };
    await this.#options.changes.run({ actor, action, target, changes }, async (tx) => {
      // As it is now that nobody else changes tenants.
      const user = seen(await this.#options.users.find(id, everything, tx), 'user', ref);
      permitRole(actor, user.role);
      await work(tx, user, actor);
    });
    return id;
  }

  async #see(ref: string, actor: UserActor): Promise<UserRecord> {
    return seen(await this.#options.users.find(ref, scopeOf(actor, 'user:read')), 'user', ref);
  }

  async #view(id: string): Promise<UserView> {
    return toView(seen(await this.#options.users.find(id, everything), 'user', id));
  }
}

function toView(record: UserRecord): UserView {
  return {
    ...record,
    passwordChangedAt: record.passwordChangedAt === null ? null : toIso(record.passwordChangedAt),
    createdAt: toIso(record.createdAt),
    modifiedAt: toIso(record.modifiedAt),
  };
}
