import { type SQL, sql } from 'drizzle-orm';
import type { AuditEntry } from './audit.ts';
import { constantSql } from './constant-sql.ts';
import { storableJson } from './json-text.ts';
import { withinQueueLimits } from './quotas.ts';
import { mayUseGroup, takesSessionType } from './resource-groups.ts';
import { projectWithin } from './scopes.ts';
import { terminalTexts } from './session-rows.ts';
import type { NewSession } from './sessions.ts';

/** A session to be inserted, with its row of the audit log. */
export interface Insertion {
  readonly session: NewSession;
  readonly audit: AuditEntry | undefined;
}

/** Whose insertions can be one statement: the same one asks for the same type in the same place. */
export function placeOf({ session }: Insertion): string {
  const { owner, domain, project, type } = session;
  return JSON.stringify([owner, domain, project, type, groupsOf(session)]);
}

/**
 * Sessions with kernels, first history rows and rows of the audit log, unless a live one has the name: all of one place
 * (`placeOf`). Limits are counted as if those before it in the list were inserted. Ends with one row for each session.
 */
export function insertion(insertions: readonly [Insertion, ...Insertion[]]): SQL {
  const { session } = insertions[0];
  const { owner, domain, project, type } = session;
  const items = storableJson(insertions.map(itemOf));
  return sql`
      with wish as (
        select * from jsonb_to_recordset(${items}::jsonb) as w (nth int, id uuid, name text, image text,
          architecture text, image_registry uuid, image_digest text, image_manifest_digest text, tag text, cluster_mode text, slots jsonb, kernel_slots jsonb, environ jsonb, options jsonb,
          priority int, job_priority int, is_preemptible boolean, failure_policy text, starts_not_before timestamptz,
          designated_agents jsonb, callback_url text, request_id text, kernels jsonb, dependencies jsonb, audit jsonb)
      ), owner as (
        select ${owner.accessKey}::text as access_key, ${owner.userId}::uuid as user_id, ${domain}::text as domain_name,
          ${type}::text as type
      ), project as (
        select id, name from (
          select p.id, p.name, count(*) over () as usable from projects p join domains d on d.name = p.domain_name
          where p.domain_name = ${domain} and p.name = coalesce(${project}::text, p.name)
            and p.is_active and d.is_active and ${projectWithin(owner.mayUse)}) candidates
        where usable = 1 or name = 'default'
      ), resource_group as (
        select g.name from resource_groups g
          join jsonb_array_elements_text(${JSON.stringify(groupsOf(session))}::jsonb) with ordinality c (name, nth)
            on c.name = g.name
        where ${mayUseGroup({ ...owner, domain, projectIds: sql`select id from project` })} and ${takesSessionType(type)}
        order by g.is_default desc, c.nth limit 1
      ), ${constantInsertion}`;
}

function groupsOf({ resourceGroup, otherGroups = [] }: NewSession): string[] {
  return [resourceGroup, ...otherGroups];
}

function itemOf({ session, audit }: Insertion, nth: number): Record<string, unknown> {
  const { id, name, image, architecture, tag, environ, options, priority, kernels, dependencies } = session;
  return {
    ...{ nth, id, name, image, architecture, tag, environ, options, priority, kernels, dependencies },
    image_registry: session.imageOrigin?.registryId ?? null,
    image_digest: session.imageOrigin?.digest ?? null,
    image_manifest_digest: session.imageOrigin?.manifestDigest ?? null,
    cluster_mode: session.clusterMode,
    slots: session.slots,
    kernel_slots: session.kernelSlots,
    job_priority: session.jobPriority,
    is_preemptible: session.isPreemptible,
    failure_policy: session.failurePolicy,
    starts_not_before: session.startsNotBefore,
    designated_agents: session.designatedAgents,
    callback_url: session.callbackUrl,
    request_id: session.requestId,
    audit,
  };
}

const constantInsertion = constantSql(sql`existing as (
        select e.id, e.name, e.image, e.architecture from sessions e
        where e.access_key = (select access_key from owner) and e.name in (select name from wish)
          and e.status not in (${terminalTexts})
      ), ${withinQueueLimits}, created as (
        insert into sessions (id, name, domain_name, project_id, user_id, access_key, type, image, architecture,
          image_registry_id, image_digest, image_manifest_digest, tag, cluster_mode, cluster_size, resource_group, status_reason, requested_slots, environ, options, priority,
          job_priority, is_preemptible, failure_policy, starts_not_before, designated_agents, callback_url, request_id)
        select w.id, w.name, o.domain_name, p.id, o.user_id, o.access_key, o.type, w.image, w.architecture,
          (select r.id from container_registries r where r.id = w.image_registry), w.image_digest, w.image_manifest_digest, w.tag,
          w.cluster_mode, jsonb_array_length(w.kernels), g.name, 'queued', w.slots, w.environ, coalesce(
            (select jsonb_build_object('bootstrapScript', b.script) from bootstrap_scripts b
              where b.access_key = o.access_key), '{}') || w.options || coalesce(
            (select jsonb_build_object('owner', jsonb_build_object('id', u.id, 'email', u.email, 'name',
              coalesce(nullif(u.full_name, ''), u.username))) from users u where u.id = o.user_id), '{}'),
          w.priority, w.job_priority, w.is_preemptible, w.failure_policy, w.starts_not_before, w.designated_agents,
          w.callback_url, w.request_id
        from wish w join queue_limit q on q.nth = w.nth cross join owner o cross join project p cross join resource_group g
        where q.refused is null and not exists (select 1 from existing e where e.name = w.name)
        on conflict (access_key, name) where status not in (${terminalTexts}) do nothing
        returning id, created_at, project_id, resource_group
      ), queue_turn as (
        insert into quota_turns (scope) select 'queue:' || o.access_key from owner o
        where exists (select 1 from queue_limit where counted) and exists (select 1 from created)
        on conflict (scope) do update set turn = quota_turns.turn + 1
      ), kernel as (
        insert into kernels (id, session_id, cluster_role, cluster_index, hostname, image, status_reason,
          requested_slots, request_id)
        select k.id, c.id, k.role, k.index, k.hostname, w.image, 'queued', w.kernel_slots, w.request_id
        from created c join wish w on w.id = c.id cross join jsonb_to_recordset(w.kernels)
          as k (id uuid, role text, index int, hostname text)
      ), dependency as (
        insert into session_dependencies (session_id, depends_on)
        select c.id, d.id::uuid
        from created c join wish w on w.id = c.id cross join jsonb_array_elements_text(w.dependencies) as d (id)
      ), history as (
        insert into session_history (id, session_id, to_status, reason, request_id)
        select gen_random_uuid(), c.id, 'PENDING', 'queued', w.request_id from created c join wish w on w.id = c.id
      ), audited as (
        insert into audit_log (id, request_id, user_id, access_key, acting_for, action, target_kind, target_id,
          domain_name, outcome, error_code, changes)
        select a.id, a."requestId", a."userId", a."accessKey", a."actingFor", a.action, a."targetKind", a."targetId",
          a."domainName", a.outcome, a."errorCode", a.changes
        from created c join wish w on w.id = c.id cross join jsonb_to_record(w.audit) as a (id uuid, "requestId" text,
          "userId" uuid, "accessKey" text, "actingFor" text, action text, "targetKind" text, "targetId" text,
          "domainName" text, outcome text, "errorCode" text, changes jsonb)
        where w.audit is not null
      )
      select w.nth, exists (select 1 from project) as "hasProject", exists (select 1 from resource_group) as "hasGroup",
        e.id as "existingId", e.image as "existingImage", e.architecture as "existingArchitecture",
        c.created_at as "createdAt", c.project_id as "projectId", (select name from project) as project,
        c.resource_group as "resourceGroup", q.refused
      from wish w left join queue_limit q on q.nth = w.nth left join existing e on e.name = w.name
      left join created c on c.id = w.id`);
