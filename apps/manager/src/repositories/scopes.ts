import type { Scope } from '@backend.ai/contract';
import { type SQL, sql } from 'drizzle-orm';

/** What `isWithin` of the contract says of one thing, as conditions of queries. */

/** Of rows of `alias` with `user_id`, `domain_name` and `project_id`. */
export function ownedWithin(scope: Scope, alias: SQL): SQL {
  switch (scope.extent) {
    case 'all':
      return sql`true`;
    case 'domain':
      return sql`(${alias}.domain_name = ${scope.domain} or ${alias}.user_id = ${scope.userId}::uuid)`;
    case 'project':
      return sql`(${alias}.user_id = ${scope.userId}::uuid or ${isMember(scope, sql`${alias}.project_id`)})`;
    case 'own':
      return sql`${alias}.user_id = ${scope.userId}::uuid`;
  }
}

/** Of projects `p`: nobody owns one, and members are of its domain. */
export function projectWithin(scope: Scope): SQL {
  switch (scope.extent) {
    case 'all':
      return sql`true`;
    case 'domain':
      return sql`p.domain_name = ${scope.domain}`;
    default:
      return sql`(p.domain_name = ${scope.domain} and ${isMember(scope, sql`p.id`)})`;
  }
}

function isMember(scope: Scope, projectId: SQL): SQL {
  return sql`exists (
    select 1 from project_members m where m.project_id = ${projectId} and m.user_id = ${scope.userId}::uuid)`;
}
