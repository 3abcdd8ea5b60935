import type { PeerKind } from '@backend.ai/contract';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

export interface PeerRecord {
  readonly id: string;
  readonly kind: PeerKind;
  readonly publicKey: string;
  readonly resourceGroup: string | null;
  readonly createdAt: string;
  readonly revokedAt: string | null;
  readonly lastSeenAt: string | null;
}

export interface JoinWrite {
  readonly tokenHash: string;
  readonly kind: PeerKind;
  readonly id: string;
  readonly publicKey: string;
  readonly requestId: string;
}

export type JoinOutcome =
  | 'joined'
  /** This very key has the name already: nothing was spent. */
  | 'known'
  /** Another peer has the name: nothing was spent, unless both came at the same moment. */
  | 'name-taken'
  /** The token is unknown, spent, expired or of another kind. */
  | 'no-token';

export type ManagerOutcome =
  | 'registered'
  /** A living manager with another key, or a peer of another kind, has the name. */
  | 'name-taken'
  /** This very key has been revoked. */
  | 'revoked';

export class PeerRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async createToken(token: {
    id: string;
    tokenHash: string;
    kind: PeerKind;
    resourceGroup: string | null;
    ttlMs: number;
  }): Promise<string> {
    const [row] = await this.#db.execute<{ expiresAt: string }>(sql`
      insert into peer_tokens (id, token_hash, kind, resource_group, expires_at)
      values (${token.id}::uuid, ${token.tokenHash}, ${token.kind}, ${token.resourceGroup}::text,
        now() + ${token.ttlMs}::float8 * interval '1 millisecond') returning expires_at as "expiresAt"`);
    return row?.expiresAt ?? '';
  }

  /**
   * Spends a token and registers the key, in one statement. A living peer keeps its name: only a revoked one of the same
   * kind may join anew with another key.
   */
  async join(peer: JoinWrite): Promise<JoinOutcome> {
    const [row] = await this.#db.execute<{ joined: boolean; present: boolean; same: boolean }>(sql`
      with present as (
        select kind = ${peer.kind} and public_key = ${peer.publicKey} as same from peers
        where id = ${peer.id} and (revoked_at is null or kind <> ${peer.kind})
      ), spent as (
        update peer_tokens set used_at = now()
        where token_hash = ${peer.tokenHash} and kind = ${peer.kind} and used_at is null and expires_at > now()
          and not exists (select 1 from present)
        returning kind, resource_group
      ), joined as (
        insert into peers (id, kind, name, public_key, resource_group, request_id, last_seen_at)
        select ${peer.id}, kind, ${peer.id}, ${peer.publicKey}, resource_group, ${peer.requestId}, now() from spent
        on conflict (id) do update set public_key = excluded.public_key, resource_group = excluded.resource_group,
          request_id = excluded.request_id, revoked_at = null, last_seen_at = now()
          where peers.revoked_at is not null and peers.kind = excluded.kind
        returning id
      )
      select exists (select 1 from joined) as joined, exists (select 1 from present) or exists (select 1 from spent)
        as present, coalesce((select same from present), false) as same`);
    if (row?.joined) return 'joined';
    if (row?.same) return 'known';
    return row?.present ? 'name-taken' : 'no-token';
  }

  async find(kind: PeerKind, id: string): Promise<PeerRecord | undefined> {
    const [row] = await this.#db.execute<PeerRecord & Record<string, unknown>>(sql`
      select id, kind, public_key as "publicKey", resource_group as "resourceGroup", created_at as "createdAt",
        revoked_at as "revokedAt", last_seen_at as "lastSeenAt"
      from peers where id = ${id} and kind = ${kind}`);
    return row;
  }

  /**
   * Registers the key of a manager, which needs no token. A living peer keeps its name and its key; a revoked manager may
   * come back with another key only.
   */
  async registerManager(manager: Pick<JoinWrite, 'id' | 'publicKey' | 'requestId'>): Promise<ManagerOutcome> {
    const [row] = await this.#db.execute<{ outcome: ManagerOutcome }>(sql`
      with present as (
        select kind, public_key, revoked_at is not null as revoked from peers where id = ${manager.id}
      ), registered as (
        insert into peers (id, kind, name, public_key, request_id)
        values (${manager.id}, 'manager', ${manager.id}, ${manager.publicKey}, ${manager.requestId})
        on conflict (id) do update set public_key = excluded.public_key, request_id = excluded.request_id,
          revoked_at = null
          where peers.kind = 'manager' and (peers.revoked_at is null) = (peers.public_key = excluded.public_key)
        returning id
      )
      select case when exists (select 1 from registered) then 'registered'
        when exists (select 1 from present where kind = 'manager' and revoked) then 'revoked'
        else 'name-taken' end as outcome`);
    return row?.outcome ?? 'name-taken';
  }

  async list(): Promise<PeerRecord[]> {
    const rows = await this.#db.execute<PeerRecord & Record<string, unknown>>(sql`
      select id, kind, public_key as "publicKey", resource_group as "resourceGroup", created_at as "createdAt",
        revoked_at as "revokedAt", last_seen_at as "lastSeenAt" from peers order by kind, id`);
    return [...rows];
  }

  async revoke(id: string): Promise<boolean> {
    const result = await this.#db.execute(
      sql`update peers set revoked_at = now() where id = ${id} and revoked_at is null`,
    );
    return result.count > 0;
  }

  async publicKeysOf(kind: PeerKind): Promise<string[]> {
    const rows = await this.#db.execute<{ publicKey: string }>(
      sql`select distinct public_key as "publicKey" from peers where kind = ${kind} and revoked_at is null order by 1`,
    );
    return rows.map((row) => row.publicKey);
  }
}
