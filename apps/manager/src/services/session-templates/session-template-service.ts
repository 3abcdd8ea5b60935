import type { CallContext, SessionTemplateApi, SessionTemplateView } from '@backend.ai/contract';
import { AppError, newId } from '@backend.ai/core';
import type { Transaction } from '@backend.ai/database';
import type {
  NewSessionTemplate,
  SessionTemplateRecord,
  SessionTemplateRepository,
} from '../../repositories/session-templates.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import { parseTemplates, sessionOfTemplate } from './parse-templates.ts';

type Input<Method extends keyof SessionTemplateApi> = Parameters<SessionTemplateApi[Method]>[0];

/** Of the actor's own. Whether a project may be used is decided when a session is made. */
export class SessionTemplateService implements SessionTemplateApi {
  readonly #templates: SessionTemplateRepository;
  readonly #audit: AuditLog;

  constructor(templates: SessionTemplateRepository, audit: AuditLog) {
    this.#templates = templates;
    this.#audit = audit;
  }

  async list(ctx: CallContext): Promise<SessionTemplateView[]> {
    return (await this.#templates.list(actorOf(ctx).userId)).map(toView);
  }

  async get({ template }: Input<'get'>, ctx: CallContext): Promise<SessionTemplateView> {
    return toView(await this.#find(template, ctx));
  }

  async create({ payload, project, domain }: Input<'create'>, ctx: CallContext): Promise<SessionTemplateView[]> {
    const { userId } = actorOf(ctx);
    const made = parseTemplates(payload).map(
      ({ name, template }): NewSessionTemplate => ({ id: newId(), userId, domain, project, name, template }),
    );
    const names = made.map(({ name }) => name);
    const twice = names.find((name, nth) => names.indexOf(name) !== nth);
    if (twice !== undefined)
      throw new AppError('invalid-input', 'Two templates cannot have one name.', {
        data: { fields: { payload: `has more than one template "${twice}"` } },
      });
    await this.#change(ctx, made.map(({ id }) => id).join(' '), { create: names }, async (tx) => {
      const [taken] = await this.#templates.lockNames(tx, userId, names);
      if (taken) throw isTaken(taken.name);
      for (const template of made) await this.#templates.insert(tx, template);
    });
    const ids = new Set(made.map(({ id }) => id));
    return (await this.list(ctx)).filter(({ id }) => ids.has(id));
  }

  async modify({ template: ref, payload }: Input<'modify'>, ctx: CallContext): Promise<SessionTemplateView> {
    const { id, userId } = await this.#find(ref, ctx);
    const [parsed, ...others] = parseTemplates(payload);
    if (!parsed || others.length > 0)
      throw new AppError('invalid-input', 'One template takes the place of one.', {
        data: { fields: { payload: 'has more than one template' } },
      });
    const { name, template } = parsed;
    await this.#change(ctx, id, { modify: name }, async (tx) => {
      const named = await this.#templates.lockNames(tx, userId, [name]);
      // Of those that had one name before names were unique, each may stay as it is called.
      if (named.length > 0 && !named.some((each) => each.id === id)) throw isTaken(name);
      await this.#templates.update(tx, id, name, template);
    });
    return await this.get({ template: id }, ctx);
  }

  async delete({ template: ref }: Input<'delete'>, ctx: CallContext): Promise<void> {
    const { id, name } = await this.#find(ref, ctx);
    await this.#change(ctx, id, { delete: name }, (tx) => this.#templates.remove(tx, id));
  }

  async #find(ref: string, ctx: CallContext): Promise<SessionTemplateRecord> {
    const own = await this.#templates.list(actorOf(ctx).userId);
    // Official clients leave out the hyphens of ids.
    const byId = own.find(({ id }) => id.replaceAll('-', '') === ref.replaceAll('-', ''));
    const [found, ...others] = byId ? [byId] : own.filter(({ name }) => name === ref);
    // Kept from a time in which names were not unique.
    if (found && others.length > 0)
      throw new AppError('too-many-matches', `${others.length + 1} session templates are named "${ref}".`, {
        hint: 'Name it by its id: ./backend.ai session-template list',
        data: { matches: [found, ...others].map(({ id }) => id) },
      });
    if (!found) throw new AppError('object-not-found', `There is no session template "${ref}".`);
    return found;
  }

  async #change(
    ctx: CallContext,
    id: string,
    changes: Readonly<Record<string, unknown>>,
    work: (tx: Transaction) => Promise<void>,
  ): Promise<void> {
    const actor = actorOf(ctx);
    const target = { kind: 'session-template', id, domain: actor.domain };
    await this.#audit.change({ actor, action: 'session-template:modify', target, changes }, work);
  }
}

function isTaken(name: string): AppError {
  return new AppError('object-exists', `You have a session template "${name}" already.`, {
    hint: 'Choose another name, or change that one: ./backend.ai session-template update NAME -f FILE',
  });
}

function toView({ domain, project, createdAt, template, ...record }: SessionTemplateRecord): SessionTemplateView {
  const session = { ...sessionOfTemplate(template), domain, project };
  return { ...record, domain, project, template, session, createdAt: toIso(createdAt) };
}
