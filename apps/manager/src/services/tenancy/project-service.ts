import {
  type Action,
  type CallContext,
  type ProjectAdminApi,
  type ProjectView,
  scopeOf,
  type UserActor,
} from '@backend.ai/contract';
import { AppError, newId } from '@backend.ai/core';
import type { Transaction } from '@backend.ai/database';
import type { ProjectRecord, ProjectRepository } from '../../repositories/projects.ts';
import type { UserRepository } from '../../repositories/users.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import {
  everything,
  limitTexts,
  permitDomain,
  permitLimits,
  refuseLiveSessions,
  seen,
  sought,
  type TenantChanges,
} from './tenant-changes.ts';

type Input<Method extends keyof ProjectAdminApi> = Parameters<ProjectAdminApi[Method]>[0];
type Ref = Input<'get'>;

export class ProjectService implements ProjectAdminApi {
  readonly #projects: ProjectRepository;
  readonly #users: UserRepository;
  readonly #changes: TenantChanges;

  constructor(projects: ProjectRepository, users: UserRepository, changes: TenantChanges) {
    this.#projects = projects;
    this.#users = users;
    this.#changes = changes;
  }

  async list(input: Input<'list'>, ctx: CallContext): Promise<{ items: ProjectView[]; total: number }> {
    const scope = scopeOf(actorOf(ctx), 'project:read');
    const { records, total } = await this.#projects.list({ ...input, domain: input.domain ?? null, scope });
    return { items: records.map(toView), total };
  }

  async get(ref: Ref, ctx: CallContext): Promise<ProjectView> {
    return toView(await this.#see(ref, actorOf(ctx)));
  }

  async create({ name, domain: given, ...values }: Input<'create'>, ctx: CallContext): Promise<ProjectView> {
    const actor = actorOf(ctx);
    const domain = given ?? actor.domain;
    const totalResourceSlots = limitTexts(values.totalResourceSlots);
    const id = newId();
    const target = { kind: 'project', id, domain };
    await this.#changes.run({ actor, action: 'project:create', target, changes: { name, ...values } }, async (tx) => {
      permitDomain(actor, 'project:create', domain);
      permitLimits(actor, values);
      if (!(await this.#projects.insert(tx, id, domain, name, { ...values, totalResourceSlots })))
        throw new AppError('object-exists', `There is a project "${name}" in ${domain} already.`);
    });
    return await this.#view(id);
  }

  async modify({ project, domain, ...values }: Input<'modify'>, ctx: CallContext): Promise<ProjectView> {
    const totalResourceSlots = limitTexts(values.totalResourceSlots);
    return await this.#change({ project, domain }, ctx, 'project:modify', values, async (tx, { id, name }) => {
      permitLimits(actorOf(ctx), values);
      if (values.isActive === false) await refuseLiveSessions(tx, { projectId: id }, `The project "${name}"`);
      await this.#projects.update(tx, id, { ...values, totalResourceSlots });
    });
  }

  async delete(ref: Ref, ctx: CallContext): Promise<void> {
    await this.#change(ref, ctx, 'project:delete', {}, async (tx, { id, name }) => {
      await refuseLiveSessions(tx, { projectId: id }, `The project "${name}"`);
      await this.#projects.update(tx, id, { isActive: false });
    });
  }

  async purge(ref: Ref, ctx: CallContext): Promise<void> {
    const actor = actorOf(ctx);
    const project = await this.#permitted(ref, actor, 'project:purge');
    await this.#changes.run({ actor, action: 'project:purge', target: targetOf(project) }, async (tx) => {
      await refuseLiveSessions(tx, { projectId: project.id }, `The project "${project.name}"`);
      await this.#projects.remove(tx, project.id);
    });
  }

  async addMembers({ users, ...ref }: Input<'addMembers'>, ctx: CallContext): Promise<ProjectView> {
    return await this.#change(ref, ctx, 'project:modify', { addMembers: users }, async (tx, project) => {
      await this.#projects.addMembers(tx, project.id, await this.#idsOf(tx, users, project.domain));
    });
  }

  async removeMembers({ users, ...ref }: Input<'removeMembers'>, ctx: CallContext): Promise<ProjectView> {
    return await this.#change(ref, ctx, 'project:modify', { removeMembers: users }, async (tx, project) => {
      await this.#projects.removeMembers(tx, project.id, await this.#idsOf(tx, users, project.domain));
    });
  }

  async #change(
    ref: Ref,
    ctx: CallContext,
    action: 'project:modify' | 'project:delete',
    changes: Readonly<Record<string, unknown>>,
    work: (tx: Transaction, project: ProjectRecord) => Promise<void>,
  ): Promise<ProjectView> {
    const actor = actorOf(ctx);
    const project = await this.#permitted(ref, actor, action, changes);
    await this.#changes.run({ actor, action, target: targetOf(project), changes }, (tx) => work(tx, project));
    return await this.#view(project.id);
  }

  async #permitted(
    ref: Ref,
    actor: UserActor,
    action: Action,
    changes: Readonly<Record<string, unknown>> = {},
  ): Promise<ProjectRecord> {
    const attempt = { actor, action, target: sought('project', ref.project), changes };
    return await this.#changes.permitted(attempt, async () => {
      const project = await this.#see(ref, actor);
      permitDomain(actor, action, project.domain);
      return project;
    });
  }

  async #see({ project, domain }: Ref, actor: UserActor): Promise<ProjectRecord> {
    const scope = scopeOf(actor, 'project:read');
    return seen(await this.#projects.find(project, domain ?? actor.domain, scope), 'project', project);
  }

  async #view(id: string): Promise<ProjectView> {
    return toView(seen(await this.#projects.find(id, '', everything), 'project', id));
  }

  /** Members are of the project's domain. */
  async #idsOf(tx: Transaction, refs: readonly string[], domain: string): Promise<string[]> {
    const ids = await this.#users.idsOf(refs, domain, tx);
    return refs.map((ref) => seen(ids.get(ref), `user of ${domain}`, ref));
  }
}

function targetOf({ id, domain }: ProjectRecord) {
  return { kind: 'project', id, domain };
}

function toView(record: ProjectRecord): ProjectView {
  return { ...record, createdAt: toIso(record.createdAt), modifiedAt: toIso(record.modifiedAt) };
}
