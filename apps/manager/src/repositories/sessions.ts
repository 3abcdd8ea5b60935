import type { Scope } from '@backend.ai/contract';
import type {
  AccessKey,
  FailurePolicy,
  KernelId,
  SessionId,
  SessionStatus,
  SessionType,
  UserRole,
} from '@backend.ai/core';
import { type Database, fencedBy, isOutage, sqlStateOf, sqlStates } from '@backend.ai/database';
import { type SQL, sql } from 'drizzle-orm';
import { type AuditEntry, audited } from './audit.ts';
import { constantSql } from './constant-sql.ts';
import { Gathered } from './gathered.ts';
import { type RunningSessionRecord, runningSession } from './idle.ts';
import { type Insertion, insertion, placeOf } from './insertion-sql.ts';
import { type MeasuredKernel, measuredKernels } from './kernel-statistics.ts';
import type { QueueLimit } from './quotas.ts';
import { ownedWithin } from './scopes.ts';
import {
  detailColumns,
  type SessionDetails,
  type SessionOptions,
  type SessionRecord,
  servingTexts,
  sessionColumns,
  terminalTexts,
} from './session-rows.ts';

export interface SessionRef {
  /** Null: it is not the form of an id. */
  readonly id: string | null;
  readonly name: string;
}

/** Which image it is, and which registry has it. */
export interface ImageOrigin {
  readonly registryId: string;
  /** Of the configuration, and of the manifest. */
  readonly digest: string;
  readonly manifestDigest: string;
}

/** With what is measured and judged of it. */
export interface InspectedSession extends SessionDetails {
  readonly measured: MeasuredKernel[];
  /** Null: it does not run. */
  readonly running: RunningSessionRecord | null;
}

/** Columns of an `InspectedSession`; expects `s` to be sessions. */
export const inspectedColumns: SQL = constantSql(sql`${sessionColumns}, ${detailColumns},
  ${measuredKernels} as "measured", ${runningSession} as "running"`);

export interface NewKernel {
  readonly id: KernelId;
  readonly role: 'main' | 'sub';
  readonly index: number;
  readonly hostname: string;
}

export interface NewSession {
  readonly id: SessionId;
  /** Of the main kernel. */
  readonly kernelId: KernelId;
  /** The main one first. */
  readonly kernels: readonly NewKernel[];
  readonly name: string;
  readonly domain: string;
  /** Null: the only one that its owner may use in the domain, or the one called `default`. */
  readonly project: string | null;
  readonly owner: {
    readonly userId: string;
    readonly accessKey: string;
    /** In whose projects. */
    readonly mayUse: Scope;
  };
  readonly type: SessionType;
  readonly image: string;
  readonly architecture: string;
  /** Where agents get it; null: some have it. */
  readonly imageOrigin: ImageOrigin | null;
  readonly tag: string | null;
  readonly clusterMode: 'single-node' | 'multi-node';
  readonly resourceGroup: string;
  /** Where it may wait as well, when nobody named one: the first that its owner may use counts, the default one before. */
  readonly otherGroups?: readonly string[];
  /** Of all kernels together, and of each. */
  readonly slots: Record<string, string>;
  readonly kernelSlots: Record<string, string>;
  readonly environ: Record<string, string>;
  readonly options: SessionOptions;
  readonly priority: number;
  readonly jobPriority: number;
  readonly isPreemptible: boolean;
  readonly failurePolicy: FailurePolicy;
  /** ISO 8601. */
  readonly startsNotBefore: string | null;
  readonly designatedAgents: readonly string[];
  readonly callbackUrl: string | null;
  /** Ids. */
  readonly dependencies: readonly string[];
  readonly requestId: string;
}

/** Whom to tell of a session's changes. */
export interface CallbackRecord {
  readonly url: string;
  /** Of the request that made the session. */
  readonly requestId: string;
}

/** One that another session is to wait for. */
export interface DependencyRecord {
  /** As it was named. */
  readonly ref: string;
  readonly id: string;
  readonly type: SessionType;
  /** It has ended and not with success. */
  readonly failed: boolean;
}

export type InsertOutcome =
  | {
      readonly kind: 'created';
      readonly createdAt: string;
      readonly projectId: string;
      readonly project: string;
      readonly resourceGroup: string;
    }
  | { readonly kind: 'exists'; readonly id: SessionId; readonly image: string; readonly architecture: string }
  /** The project does not exist, or its owner is no member, or it has to be named. */
  | { readonly kind: 'no-project' }
  /** None that exists, is active, takes the type, and that the owner may use. */
  | { readonly kind: 'no-resource-group' }
  /** What the key pair's policy says against it. */
  | { readonly kind: 'over-limit'; readonly limit: QueueLimit }
  /** Somebody inserted the name at the same moment: look again. */
  | { readonly kind: 'raced' };

export interface HistoryRecord {
  readonly fromStatus: SessionStatus | null;
  readonly toStatus: SessionStatus;
  readonly reason: string;
  readonly data: Record<string, unknown>;
  readonly requestId: string;
  readonly at: string;
}

/** With the role of its user as it is now. */
export type Owned<T> = T & { readonly ownerRole: UserRole };

/** What the statement that inserts tells of one session. */
interface InsertedRow extends Record<string, unknown> {
  readonly nth: number;
  readonly hasProject: boolean;
  readonly hasGroup: boolean;
  readonly existingId: SessionId | null;
  readonly existingImage: string;
  readonly existingArchitecture: string;
  readonly createdAt: string | null;
  readonly projectId: string;
  readonly project: string;
  readonly resourceGroup: string;
  readonly refused: QueueLimit | null;
}

function outcomeOf(row: InsertedRow): InsertOutcome {
  if (!row.hasProject) return { kind: 'no-project' };
  if (row.existingId) {
    return { kind: 'exists', id: row.existingId, image: row.existingImage, architecture: row.existingArchitecture };
  }
  const { createdAt, projectId, project, resourceGroup, refused } = row;
  if (createdAt) return { kind: 'created', createdAt, projectId, project, resourceGroup };
  if (!row.hasGroup) return { kind: 'no-resource-group' };
  return refused ? { kind: 'over-limit', limit: refused } : { kind: 'raced' };
}

export class SessionRepository {
  readonly #db: Database;
  readonly #steady: Database;
  readonly #insertions = new Gathered({
    work: (insertions: readonly Insertion[]) => this.#insertAll(insertions),
    most: 64,
  });

  constructor(db: Database, steady: Database = db) {
    this.#db = db;
    this.#steady = steady;
  }

  /**
   * Session, kernels, first history row and row of the audit log in one statement, unless a live one has the name;
   * together with others that come at this moment.
   */
  async insert(session: NewSession, audit?: AuditEntry): Promise<InsertOutcome> {
    const outcome = await this.#insertions.add({ session, audit });
    return outcome ? outcome() : { kind: 'raced' };
  }

  /** Places fail apart from each other: those that were inserted elsewhere are, and must not be inserted once more. */
  async #insertAll(insertions: readonly Insertion[]): Promise<Array<(() => InsertOutcome) | undefined>> {
    const places = new Map<string, [Insertion, ...Insertion[]]>();
    for (const each of insertions) {
      const place = placeOf(each);
      const others = places.get(place);
      if (others) others.push(each);
      else places.set(place, [each]);
    }
    const outcomes = new Map<Insertion, () => InsertOutcome>();
    await Promise.all(
      [...places.values()].map(async (some) => {
        try {
          for (const row of await this.#steady.execute<InsertedRow>(insertion(some))) {
            const outcome = outcomeOf(row);
            // A refusal may be due to those before it: it has to be found again without them.
            if (outcome.kind === 'created' || insertions.length === 1) outcomes.set(some[row.nth]!, () => outcome);
          }
        } catch (error) {
          const rethrow = (): never => {
            throw error;
          };
          if (isOutage(error) || insertions.length === 1) for (const each of some) outcomes.set(each, rethrow);
        }
      }),
    );
    return insertions.map((each) => outcomes.get(each));
  }

  /**
   * By name among those of one access key, or by id within a scope. A live session comes before ended ones of the same
   * name, newer before older.
   */
  async find(ref: SessionRef, accessKey: string, scope: Scope): Promise<Owned<SessionRecord> | undefined> {
    return (await this.#find(sessionColumns, ref, accessKey, scope)) as Owned<SessionRecord> | undefined;
  }

  /** As `find`, with what may be long. */
  async findDetails(ref: SessionRef, accessKey: string, scope: Scope): Promise<Owned<SessionDetails> | undefined> {
    return (await this.#find(sql`${sessionColumns}, ${detailColumns}`, ref, accessKey, scope)) as
      | Owned<SessionDetails>
      | undefined;
  }

  /** As `findDetails`, with what is measured and judged of it. */
  async findInspected(ref: SessionRef, accessKey: string, scope: Scope): Promise<Owned<InspectedSession> | undefined> {
    return (await this.#find(inspectedColumns, ref, accessKey, scope)) as Owned<InspectedSession> | undefined;
  }

  async #find(columns: SQL, ref: SessionRef, accessKey: string, scope: Scope): Promise<unknown> {
    const [row] = await this.#db.execute(sql`
      select ${columns}, (select u.role from users u where u.id = s.user_id) as "ownerRole" from sessions s
      where s.id = (
        select f.id from sessions f
        where (f.id = ${ref.id}::uuid and ${ownedWithin(scope, sql`f`)})
          or (f.access_key = ${accessKey} and f.name = ${ref.name})
        order by (f.id = ${ref.id}::uuid) desc nulls last, (f.status in (${terminalTexts})), f.created_at desc limit 1)`);
    return row;
  }

  /** Of each reference (an id or a name) the owner's session that `find` would find. */
  async findDependencies(refs: readonly string[], accessKey: string): Promise<DependencyRecord[]> {
    const rows = await this.#db.execute<DependencyRecord & Record<string, unknown>>(sql`
      select distinct on (r.ref) r.ref, s.id, s.type, s.status in (${terminalTexts}) and s.result <> 'success' as failed
      from jsonb_array_elements_text(${JSON.stringify(refs)}::jsonb) as r (ref)
      join sessions s on s.access_key = ${accessKey} and (s.name = r.ref or s.id::text = lower(r.ref))
      order by r.ref, (s.id::text = lower(r.ref)) desc, (s.status in (${terminalTexts})), s.created_at desc`);
    return [...rows];
  }

  /** Sessions of the same owner that depend on it, on those, and so on; those at the end of each chain come first. */
  async liveDependents(sessionId: string): Promise<SessionRecord[]> {
    const rows = await this.#db.execute<SessionRecord & Record<string, unknown>>(sql`
      with recursive dependents (id) as (
        select session_id from session_dependencies where depends_on = ${sessionId}::uuid
        union select d.session_id from session_dependencies d join dependents p on d.depends_on = p.id
      )
      select ${sessionColumns} from sessions s
      where s.id in (select id from dependents) and s.status not in (${terminalTexts})
        and s.access_key = (select access_key from sessions where id = ${sessionId}::uuid)
      order by s.created_at desc, s.id desc`);
    return [...rows];
  }

  /** Sessions that wait for others which have ended without success, with the ids of those. */
  async failedDependents(): Promise<Array<{ sessionId: string; failed: string[] }>> {
    const rows = await this.#db.execute<{ sessionId: string; failed: string[] }>(sql`
      select s.id as "sessionId", jsonb_agg(d.id order by d.id) as failed
      from session_dependencies sd join sessions s on s.id = sd.session_id join sessions d on d.id = sd.depends_on
      where s.status = 'PENDING' and d.status in (${terminalTexts}) and d.result <> 'success'
      group by s.id order by s.id`);
    return [...rows];
  }

  async findCallback(id: string): Promise<CallbackRecord | undefined> {
    const [row] = await this.#db.execute<CallbackRecord & Record<string, unknown>>(sql`
      select callback_url as url, request_id as "requestId" from sessions
      where id = ${id}::uuid and callback_url is not null`);
    return row;
  }

  /** Of one that runs. The index of live names decides whether it is free. */
  async rename(id: string, name: string, audit: AuditEntry): Promise<'renamed' | 'not-running' | 'name-taken'> {
    try {
      const rows = await this.#db.execute(sql`
        with renamed as (
          update sessions set name = ${name}, version = version + 1
          where id = ${id}::uuid and status in (${servingTexts}) returning id
        ) ${audited(audit, sql`renamed`)}
        select id from renamed`);
      return rows.length > 0 ? 'renamed' : 'not-running';
    } catch (error) {
      if (sqlStateOf(error) === sqlStates.uniqueViolation) return 'name-taken';
      throw error;
    }
  }

  /** Writes down the wish; a change that is none keeps its moment. False: it does not run. */
  async setPaused(id: string, paused: boolean, audit?: AuditEntry): Promise<boolean> {
    const rows = await this.#db.execute(sql`
      with wished as (
        update sessions set paused_at = case when ${paused}::boolean then coalesce(paused_at, now()) end,
          resumed_at = case when ${paused}::boolean or paused_at is null then resumed_at else now() end,
          version = version + 1
        where id = ${id}::uuid and status in (${servingTexts}) returning id
      ) ${audit ? audited(audit, sql`wished`) : sql``}
      select id from wished`);
    return rows.length > 0;
  }

  /** The wish could not be fulfilled. It was not paused, and so was not resumed either. */
  async takeBackPause(id: string): Promise<void> {
    await this.#db.execute(sql`
      update sessions set paused_at = null, version = version + 1 where id = ${id}::uuid and paused_at is not null`);
  }

  async findById(id: string): Promise<SessionRecord | undefined> {
    const [row] = await this.#db.execute<SessionRecord & Record<string, unknown>>(
      sql`select ${sessionColumns} from sessions s where s.id = ${id}::uuid`,
    );
    return row;
  }

  /** Newest first; of one access key, or of all owners within a scope. */
  async list(filter: { owners: string | Scope; all: boolean; limit: number }): Promise<SessionRecord[]> {
    const { owners } = filter;
    const owned = typeof owners === 'string' ? sql`s.access_key = ${owners}` : ownedWithin(owners, sql`s`);
    const rows = await this.#db.execute<SessionRecord & Record<string, unknown>>(sql`
      select ${sessionColumns} from sessions s
      where ${owned} and (${filter.all}::boolean or s.status not in (${terminalTexts}))
      order by s.created_at desc, s.id desc limit ${filter.limit}::int`);
    return [...rows];
  }

  async history(sessionId: string): Promise<HistoryRecord[]> {
    const records = await this.historyWithReasons(sessionId);
    return records.filter(({ fromStatus, toStatus }) => fromStatus !== 'PENDING' || toStatus !== 'PENDING');
  }

  /** Also what it waited for meanwhile: from PENDING to PENDING. */
  async historyWithReasons(sessionId: string): Promise<HistoryRecord[]> {
    const rows = await this.#db.execute<HistoryRecord & Record<string, unknown>>(sql`
      select from_status as "fromStatus", to_status as "toStatus", reason, data, request_id as "requestId", at
      from session_history where session_id = ${sessionId}::uuid and kernel_id is null order by at, id`);
    return [...rows];
  }

  /** Why sessions wait, and since when. Only those that still do change. */
  async writeReasons(
    reasons: ReadonlyArray<{ sessionId: string; code: string; data: Readonly<Record<string, unknown>> }>,
    epoch: number,
  ): Promise<Array<{ sessionId: string; kernelId: string; name: string; accessKey: string; reason: string }>> {
    const rows = await this.#db.execute<{
      sessionId: string;
      kernelId: string;
      name: string;
      accessKey: string;
      reason: string;
    }>(sql`
      with changed as (
        update sessions s set status_reason = r.code, status_data = r.data, version = s.version + 1
        from jsonb_to_recordset(${JSON.stringify(reasons)}::jsonb) as r ("sessionId" uuid, code text, data jsonb)
        where s.id = r."sessionId" and s.status = 'PENDING' and ${fencedBy(epoch)}
        returning s.id, s.name, s.access_key, s.status_reason, s.request_id
      ), history as (
        insert into session_history (id, session_id, from_status, to_status, reason, request_id)
        select gen_random_uuid(), id, 'PENDING', 'PENDING', status_reason, request_id from changed
      )
      select c.id as "sessionId", c.name, c.access_key as "accessKey", c.status_reason as reason,
        (select k.id from kernels k where k.session_id = c.id order by k.cluster_role limit 1) as "kernelId"
      from changed c`);
    return [...rows];
  }

  /** How often a session that waits could not be placed. Of one that does not wait any more nothing is written. */
  async writeAttempts(sessionId: string, attempts: number, epoch: number): Promise<void> {
    await this.#db.execute(sql`
      update sessions s set placement_attempts = ${attempts}::int
      where s.id = ${sessionId}::uuid and s.status = 'PENDING' and ${fencedBy(epoch)}`);
  }

  async countByStatus(scope: Scope): Promise<Record<string, number>> {
    const rows = await this.#db.execute<{ status: string; count: number }>(sql`
      select status, count(*)::int as count from sessions s
      where status not in (${terminalTexts}) and ${ownedWithin(scope, sql`s`)}
      group by status`);
    return Object.fromEntries(rows.map((row) => [row.status, row.count]));
  }

  async liveIds(): Promise<Array<{ id: SessionId; accessKey: AccessKey; status: SessionStatus }>> {
    const rows = await this.#db.execute<{ id: SessionId; accessKey: AccessKey; status: SessionStatus }>(
      sql`select id, access_key as "accessKey", status from sessions where status not in (${terminalTexts})`,
    );
    return [...rows];
  }
}
