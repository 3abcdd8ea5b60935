import {
  type Action,
  type CallContext,
  type KeypairAdminApi,
  type KeypairView,
  type NewKeypair,
  scopeOf,
  type UserActor,
} from '@backend.ai/contract';
import type { Transaction } from '@backend.ai/database';
import type {
  AdministeredKeypair,
  KeypairAdministration,
  KeypairValues,
} from '../../repositories/keypair-administration.ts';
import type { UserRepository } from '../../repositories/users.ts';
import { newAccessKey, newSecretKey } from '../installation/installation-service.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import {
  everything,
  permit,
  permitLimits,
  permitRole,
  refuseLiveSessions,
  seen,
  sought,
  type TenantChanges,
} from './tenant-changes.ts';

type Input<Method extends keyof KeypairAdminApi> = Parameters<KeypairAdminApi[Method]>[0];

export class KeypairAdminService implements KeypairAdminApi {
  readonly #keypairs: KeypairAdministration;
  readonly #users: UserRepository;
  readonly #box: SecretBox;
  readonly #changes: TenantChanges;

  constructor(keypairs: KeypairAdministration, users: UserRepository, box: SecretBox, changes: TenantChanges) {
    this.#keypairs = keypairs;
    this.#users = users;
    this.#box = box;
    this.#changes = changes;
  }

  async list(input: Input<'list'>, ctx: CallContext): Promise<{ items: KeypairView[]; total: number }> {
    const { user, domain = null, isActive = null, limit, offset } = input;
    const scope = scopeOf(actorOf(ctx), 'keypair:read');
    const email = user?.toLowerCase() ?? null;
    const { records, total } = await this.#keypairs.list({ scope, email, domain, isActive, limit, offset });
    return { items: records.map(toView), total };
  }

  async get({ accessKey }: Input<'get'>, ctx: CallContext): Promise<KeypairView> {
    return toView(await this.#see(accessKey, actorOf(ctx)));
  }

  async create({ user: ref, ...values }: Input<'create'>, ctx: CallContext): Promise<NewKeypair> {
    const actor = actorOf(ctx);
    const attempt = { actor, action: 'keypair:create', changes: { user: ref, ...values } } as const;
    const user = await this.#changes.permitted({ ...attempt, target: sought('keypair', '') }, async () => {
      const found = seen(await this.#users.find(ref, scopeOf(actor, 'user:read')), 'user', ref);
      permit(actor, 'keypair:create', { userId: found.id, domain: found.domain });
      return found;
    });
    const { accessKey, secretKey, insert } = this.prepare(user.id, values);
    const target = { kind: 'keypair', id: accessKey, domain: user.domain };
    const changes = { user: user.email, ...values };
    await this.#changes.run({ ...attempt, target, changes }, async (tx) => {
      permitLimits(actor, values);
      permitRole(actor, (await this.#users.find(user.id, everything, tx))?.role ?? user.role);
      await insert(tx);
    });
    return { keypair: await this.view(accessKey), secretKey };
  }

  async modify({ accessKey, isMain, ...values }: Input<'modify'>, ctx: CallContext): Promise<KeypairView> {
    const changes = { ...values, isMain };
    await this.#change(accessKey, ctx, 'keypair:modify', changes, async (tx, { userId }) => {
      permitLimits(actorOf(ctx), values);
      await this.#keypairs.update(tx, accessKey, values);
      if (isMain) await this.#keypairs.makeMain(tx, accessKey, userId);
    });
    return await this.view(accessKey);
  }

  async delete({ accessKey }: Input<'delete'>, ctx: CallContext): Promise<void> {
    await this.#change(accessKey, ctx, 'keypair:delete', {}, async (tx, { userId }) => {
      await refuseLiveSessions(tx, { accessKey }, `The key pair ${accessKey}`);
      await this.#keypairs.remove(tx, accessKey, userId);
    });
  }

  /** A new key pair, and how to store it. */
  prepare(
    userId: string,
    values: KeypairValues,
  ): { accessKey: string; secretKey: string; insert: (tx: Transaction) => Promise<void> } {
    const [accessKey, secretKey] = [newAccessKey(), newSecretKey()];
    const secretKeyEncrypted = this.#box.encrypt(secretKey, accessKey);
    const insert = (tx: Transaction): Promise<void> =>
      this.#keypairs.insert(tx, { accessKey, userId, secretKeyEncrypted }, values);
    return { accessKey, secretKey, insert };
  }

  async view(accessKey: string): Promise<KeypairView> {
    return toView(seen(await this.#keypairs.find(accessKey, everything), 'key pair', accessKey));
  }

  async #change(
    accessKey: string,
    ctx: CallContext,
    action: Action,
    changes: Readonly<Record<string, unknown>>,
    work: (tx: Transaction, keypair: AdministeredKeypair) => Promise<void>,
  ): Promise<void> {
    const actor = actorOf(ctx);
    const attempt = { actor, action, target: sought('keypair', accessKey), changes };
    const { domain } = await this.#changes.permitted(attempt, async () => {
      const found = await this.#see(accessKey, actor);
      permit(actor, action, found);
      return found;
    });
    const target = { kind: 'keypair', id: accessKey, domain };
    await this.#changes.run({ actor, action, target, changes }, async (tx) => {
      const keypair = seen(await this.#keypairs.find(accessKey, everything, tx), 'key pair', accessKey);
      permitRole(actor, keypair.role);
      await work(tx, keypair);
    });
  }

  async #see(accessKey: string, actor: UserActor): Promise<AdministeredKeypair> {
    return seen(await this.#keypairs.find(accessKey, scopeOf(actor, 'keypair:read')), 'key pair', accessKey);
  }
}

function toView({ role: _, ...record }: AdministeredKeypair): KeypairView {
  return {
    ...record,
    lastUsedAt: record.lastUsedAt === null ? null : toIso(record.lastUsedAt),
    createdAt: toIso(record.createdAt),
    modifiedAt: toIso(record.modifiedAt),
  };
}
