import { AppError, isHigherRole, type UserRole } from '@backend.ai/core';

/**
 * Who may do what: the one table that every procedure, route and service asks.
 *
 * An action is a noun and a verb. For each role it has an extent: whose things the action may touch. `procedureFor` lets
 * nobody in who has none; services compare the extent with the thing at hand (`allow`), and lists ask for things within
 * it (`scopeOf`). Pure data: the table in `docs/user/access.md` is made of it.
 */

/** Each includes those before it: the user's own things, also those of their projects, of their domain, everybody's. */
export const extents = ['own', 'project', 'domain', 'all'] as const;
export type Extent = (typeof extents)[number];

export interface ActionEntry {
  /** What the action is, for the documentation. */
  readonly about: string;
  /** A role that is absent may not. */
  readonly extents: Partial<Readonly<Record<UserRole, Extent>>>;
}

/** Extents of the user, the domain admin and the superadmin. */
function entry(about: string, user: Extent | null, admin: Extent | null, superadmin: Extent): ActionEntry {
  return { about, extents: { ...(user && { user }), ...(admin && { admin }), superadmin } };
}

export const actions = {
  'account:read': entry('see who one is', 'own', 'own', 'own'),
  'account:impersonate': entry('act for the owner of another key pair, never of a higher role', 'own', 'domain', 'all'),
  'cluster:read': entry('see agents and what is in use', 'all', 'all', 'all'),
  'image:read': entry('list images; customized ones are shown to their owner and to superadmins', 'all', 'all', 'all'),
  'image:delete': entry('delete customized images', 'own', 'own', 'all'),
  'image:modify': entry('rescan registries, name, forget, purge and preload images', null, null, 'all'),
  'registry:read': entry('see registries, without passwords', null, null, 'all'),
  'registry:modify': entry('add, modify and remove registries', null, null, 'all'),
  'task:read': entry('follow work that goes on after the call that began it', 'own', 'own', 'all'),
  'session:create': entry('create sessions in projects', 'project', 'domain', 'all'),
  'session:read': entry('list and look at sessions', 'own', 'domain', 'all'),
  'session:use': entry('execute code in sessions, move files, read logs', 'own', 'domain', 'all'),
  'usage:read': entry('see how much of what was used for how long', 'own', 'domain', 'all'),
  'usage:read-kernels': entry('see kernel by kernel what projects used', null, null, 'all'),
  'session:destroy': entry('end sessions', 'own', 'domain', 'all'),
  'session:restart': entry('start sessions anew', 'own', 'domain', 'all'),
  'session:pause': entry('pause sessions and let them go on', 'own', 'domain', 'all'),
  'session:commit': entry('make images of sessions', 'own', 'domain', 'all'),
  'session:rename': entry('give sessions another name', 'own', 'domain', 'all'),
  'dotfile:read': entry('see the dotfiles and the bootstrap script of the own key pair', 'own', 'own', 'own'),
  'dotfile:modify': entry('change the dotfiles and the bootstrap script of the own key pair', 'own', 'own', 'own'),
  'dotfile:modify-shared': entry('change the dotfiles of domains and projects', null, 'domain', 'all'),
  'session-template:read': entry('see the own session templates', 'own', 'own', 'own'),
  'session-template:modify': entry('create, modify and delete the own session templates', 'own', 'own', 'own'),
  'resource-group:use': entry('list resource groups that one may use', 'own', 'own', 'own'),
  'resource-group:read': entry('see all resource groups with options and allow lists', null, null, 'all'),
  'resource-group:modify': entry('create, modify, delete resource groups, say who may use them', null, null, 'all'),
  'resource-policy:read': entry(
    'see resource policies: those of the own key pairs, user and projects',
    'own',
    'own',
    'all',
  ),
  'resource-policy:modify': entry('create, modify and delete resource policies', null, null, 'all'),
  'resource-policy:assign': entry(
    'give key pairs, users, projects and domains resource policies, rate limits and totals',
    null,
    null,
    'all',
  ),
  'resource-preset:read': entry('list resource presets', 'all', 'all', 'all'),
  'resource-preset:check': entry(
    'see which presets one could start now, and what is left of limits',
    'own',
    'own',
    'own',
  ),
  'resource-preset:modify': entry('create, modify and delete resource presets', null, null, 'all'),
  'warm-pool:read': entry('see warm pools', null, null, 'all'),
  'warm-pool:modify': entry('create, modify and delete warm pools', null, null, 'all'),
  'agent:read': entry('see agents with what they hold and where they are', null, null, 'all'),
  'agent:modify': entry('keep agents from new sessions, move them to other groups', null, null, 'all'),
  'domain:read': entry('look at domains', 'domain', 'domain', 'all'),
  'domain:create': entry('create domains', null, null, 'all'),
  'domain:modify': entry('modify domains', null, null, 'all'),
  'domain:delete': entry('make domains inactive', null, null, 'all'),
  'domain:purge': entry('remove empty domains', null, null, 'all'),
  'project:read': entry('look at projects', 'project', 'domain', 'all'),
  'project:create': entry('create projects', null, 'domain', 'all'),
  'project:modify': entry('modify projects, add and remove members', null, 'domain', 'all'),
  'project:delete': entry('make projects inactive', null, 'domain', 'all'),
  'project:purge': entry('remove projects', null, 'domain', 'all'),
  'user:read': entry('look at users', 'own', 'domain', 'all'),
  'user:create': entry('create users, of no higher role than the own', null, 'domain', 'all'),
  'user:modify': entry('modify users of no higher role', null, 'domain', 'all'),
  'user:change-password': entry('change the own password', 'own', 'own', 'own'),
  'user:delete': entry('delete users of no higher role', null, 'domain', 'all'),
  'user:purge': entry('remove users of no higher role', null, 'domain', 'all'),
  'keypair:read': entry('look at key pairs, without secrets', 'own', 'domain', 'all'),
  'keypair:create': entry('create key pairs for users of no higher role', null, 'domain', 'all'),
  'keypair:modify': entry('modify, activate, deactivate key pairs', null, 'domain', 'all'),
  'keypair:delete': entry('delete key pairs', null, 'domain', 'all'),
  'audit:read': entry('see who changed what', 'own', 'domain', 'all'),
} as const satisfies Record<`${string}:${string}`, ActionEntry>;

export type Action = keyof typeof actions;

/** Whose rights are asked for. */
export interface Subject {
  readonly userId: string;
  readonly role: UserRole;
  readonly domain: string;
}

/** Whom a thing belongs to, as far as its noun knows such a thing. */
export interface Target {
  readonly userId?: string | undefined;
  readonly domain?: string | undefined;
  /** The actor is a member of the project that it belongs to. */
  readonly isMember?: boolean | undefined;
  /** Of the user that it belongs to. What somebody of a higher role owns may be looked at, and nothing else. */
  readonly ownerRole?: UserRole | undefined;
}

/** Whose things a query may show. */
export interface Scope {
  readonly extent: Extent;
  readonly userId: string;
  readonly domain: string;
}

/** Null: the role may not do this at all. */
export function extentOf(role: UserRole, action: Action): Extent | null {
  return (actions[action] as ActionEntry).extents[role] ?? null;
}

/** Whether the actor may do this with a thing of this owner, domain or project. */
export function allow(actor: Subject, action: Action, target: Target): boolean {
  const extent = extentOf(actor.role, action);
  if (extent === null) return false;
  const isAbove = target.ownerRole !== undefined && isHigherRole(target.ownerRole, actor.role);
  if (isAbove && target.userId !== actor.userId && !action.endsWith(':read')) return false;
  return isWithin({ extent, userId: actor.userId, domain: actor.domain }, target);
}

/** @throws AppError `forbidden` when the actor's role may not do this at all */
export function scopeOf(actor: Subject, action: Action): Scope {
  const extent = extentOf(actor.role, action);
  if (extent === null) throw new AppError('forbidden', 'This call needs more rights than yours.', { data: { action } });
  return { extent, userId: actor.userId, domain: actor.domain };
}

export function isWithin(scope: Scope, target: Target): boolean {
  switch (scope.extent) {
    case 'all':
      return true;
    case 'domain':
      return target.domain === scope.domain || target.isMember === true || target.userId === scope.userId;
    case 'project':
      return target.isMember === true || target.userId === scope.userId;
    case 'own':
      return target.userId === scope.userId;
  }
}
