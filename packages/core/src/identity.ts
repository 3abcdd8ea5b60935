/** What a user may do in general; `admin` is an administrator of one domain. Each may do what those before it may. */
export const userRoles = ['user', 'admin', 'superadmin'] as const;
export type UserRole = (typeof userRoles)[number];

export function isHigherRole(role: UserRole, than: UserRole): boolean {
  return userRoles.indexOf(role) > userRoles.indexOf(than);
}

/** Only `active` users get in. What `deleted` users left (sessions, records) stays theirs until they are purged. */
export const userStatuses = ['active', 'inactive', 'deleted'] as const;
export type UserStatus = (typeof userStatuses)[number];
