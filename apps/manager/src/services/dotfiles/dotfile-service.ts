import {
  type CallContext,
  type DotfileApi,
  type DotfileOwner,
  type DotfileRef,
  type DotfileView,
  dotfileLimits,
  isWithin,
  type ListDotfilesInput,
  scopeOf,
  type UserActor,
  type WriteDotfileInput,
} from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { Transaction } from '@backend.ai/database';
import type { DomainRepository } from '../../repositories/domains.ts';
import type { DotfileOwnerRecord, DotfileRepository } from '../../repositories/dotfiles.ts';
import type { ProjectRepository } from '../../repositories/projects.ts';
import type { AuditedChange, AuditLog } from '../audit/audit-log.ts';
import { actorOf } from '../sessions/session-service.ts';
import { permitDomain, seen } from '../tenancy/tenant-changes.ts';
import { isInTheWay } from './effective-dotfiles.ts';

export interface DotfileServiceOptions {
  readonly dotfiles: DotfileRepository;
  readonly projects: ProjectRepository;
  readonly domains: DomainRepository;
  readonly audit: AuditLog;
}

interface Found extends DotfileOwnerRecord {
  readonly domain: string;
}

/** Files and the script that sessions begin with. What they contain is in no log. */
export class DotfileService implements DotfileApi {
  readonly #options: DotfileServiceOptions;
  readonly #dotfiles: DotfileRepository;

  constructor(options: DotfileServiceOptions) {
    this.#options = options;
    this.#dotfiles = options.dotfiles;
  }

  async list({ owner }: ListDotfilesInput, ctx: CallContext): Promise<DotfileView[]> {
    return await this.#dotfiles.list(await this.#find(owner, actorOf(ctx)));
  }

  async get({ path, owner }: DotfileRef, ctx: CallContext): Promise<DotfileView> {
    return found(await this.list({ owner }, ctx), path);
  }

  async create({ owner, ...file }: WriteDotfileInput, ctx: CallContext): Promise<void> {
    const { path, permission } = file;
    await this.#change(ctx, path, owner, { create: { permission } }, async (tx, of, files) => {
      if (files.some((other) => other.path === path))
        throw new AppError('object-exists', `There is a dotfile ${path} already.`);
      checkLimits([...files, file]);
      checkPlace(path, files);
      await this.#dotfiles.insert(tx, of, { ...file, bySuperadmin: isSuperadmin(ctx) });
    });
  }

  async modify({ owner, ...file }: WriteDotfileInput, ctx: CallContext): Promise<void> {
    const { path, permission } = file;
    await this.#change(ctx, path, owner, { modify: { permission } }, async (tx, of, files) => {
      found(files, path);
      checkLimits([...files.filter((other) => other.path !== path), file]);
      await this.#dotfiles.update(tx, of, { ...file, bySuperadmin: isSuperadmin(ctx) });
    });
  }

  async delete({ path, owner }: DotfileRef, ctx: CallContext): Promise<void> {
    await this.#change(ctx, path, owner, { delete: true }, async (tx, of, files) => {
      found(files, path);
      await this.#dotfiles.remove(tx, of, path);
    });
  }

  async bootstrapScript(ctx: CallContext): Promise<{ script: string }> {
    return { script: await this.#dotfiles.bootstrapScript(actorOf(ctx).accessKey) };
  }

  async setBootstrapScript({ script }: { script: string }, ctx: CallContext): Promise<void> {
    await this.#change(ctx, 'bootstrap-script', undefined, { set: script !== '' }, async (tx, of) => {
      await this.#dotfiles.setBootstrapScript(tx, of.id, script);
    });
  }

  async #change(
    ctx: CallContext,
    id: string,
    owner: DotfileOwner | undefined,
    what: Readonly<Record<string, unknown>>,
    work: (tx: Transaction, of: DotfileOwnerRecord, files: readonly DotfileView[]) => Promise<void>,
  ): Promise<void> {
    const { audit } = this.#options;
    const actor = actorOf(ctx);
    const action = owner ? 'dotfile:modify-shared' : 'dotfile:modify';
    const attempt: AuditedChange = {
      ...{ actor, action },
      ...{ target: { kind: 'dotfile', id, domain: owner ? null : actor.domain }, changes: { ...what, owner } },
    };
    const of = await audit.within(attempt, async () => {
      const one = await this.#find(owner, actor);
      if (owner) permitDomain(actor, action, one.domain);
      return one;
    });
    await audit.change({ ...attempt, target: { ...attempt.target, domain: of.domain } }, async (tx) => {
      await this.#dotfiles.lock(tx, of);
      await work(tx, of, await this.#dotfiles.list(of, tx));
    });
  }

  /** @throws AppError `object-not-found` for what the actor may not see */
  async #find(owner: DotfileOwner | undefined, actor: UserActor): Promise<Found> {
    if (!owner) return { kind: 'keypair', id: actor.accessKey, domain: actor.domain };
    if ('project' in owner) {
      const scope = scopeOf(actor, 'project:read');
      const project = await this.#options.projects.find(owner.project, owner.domain ?? actor.domain, scope);
      const { id, domain } = seen(project, 'project', owner.project);
      return { kind: 'project', id, domain };
    }
    const isVisible = isWithin(scopeOf(actor, 'domain:read'), { domain: owner.domain });
    const domain = isVisible ? await this.#options.domains.find(owner.domain) : undefined;
    const { name } = seen(domain, 'domain', owner.domain);
    return { kind: 'domain', id: name, domain: name };
  }
}

function isSuperadmin(ctx: CallContext): boolean {
  return actorOf(ctx).role === 'superadmin';
}

function found(files: readonly DotfileView[], path: string): DotfileView {
  const file = files.find((each) => each.path === path);
  if (!file) throw new AppError('object-not-found', `There is no dotfile ${path}.`);
  return file;
}

/** @throws AppError `invalid-input` */
function checkLimits(files: readonly DotfileView[]): void {
  if (files.length > dotfileLimits.files) throw wrong('path', `would be more than ${dotfileLimits.files} files`);
  const bytes = files.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
  if (bytes > dotfileLimits.bytes) throw wrong('content', `would be more than ${dotfileLimits.bytes} bytes in all`);
}

/** A file has no other ones below it. @throws AppError `invalid-input` */
function checkPlace(path: string, files: readonly DotfileView[]): void {
  const other = files.find((file) => isInTheWay(file.path, path));
  if (other) throw wrong('path', `does not go together with the dotfile ${other.path}`);
}

function wrong(field: string, problem: string): AppError {
  return new AppError('invalid-input', `Invalid input: ${field} ${problem}.`, {
    data: { fields: { [field]: problem } },
  });
}
