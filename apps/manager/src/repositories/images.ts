import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** An image that a registry has, for one architecture. */
export interface ImageRecord {
  readonly id: string;
  readonly registryId: string;
  /** Of the registry. */
  readonly registry: string;
  readonly name: string;
  readonly repository: string;
  readonly tag: string;
  readonly architecture: string;
  /** Of its configuration, and of its manifest. */
  readonly digest: string;
  readonly manifestDigest: string;
  readonly sizeBytes: number;
  readonly labels: Record<string, string>;
  /** PostgreSQL's text in UTC. */
  readonly scannedAt: string;
}

export interface AliasRecord {
  readonly alias: string;
  readonly architecture: string;
  /** Canonical name. */
  readonly image: string;
}

export interface ImageUpdate {
  readonly registryId: string;
  readonly repository: string;
  readonly images: ReadonlyArray<
    Pick<ImageRecord, 'id' | 'name' | 'tag' | 'architecture' | 'digest' | 'manifestDigest' | 'sizeBytes' | 'labels'>
  >;
  /** Rows of these tags stay as they are unless `images` has them. */
  readonly failedTags: readonly string[];
}

export class ImageRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(registryId?: string): Promise<ImageRecord[]> {
    const only = registryId === undefined ? sql`` : sql`where i.registry_id = ${registryId}::uuid`;
    const rows = await this.#db.execute<ImageRecord & Record<string, unknown>>(sql`
      select i.id, i.registry_id as "registryId", r.name as registry, i.name, i.repository, i.tag, i.architecture, i.digest,
        i.manifest_digest as "manifestDigest", i.size_bytes::float8 as "sizeBytes", i.labels, i.scanned_at as "scannedAt"
      from images i join container_registries r on r.id = i.registry_id ${only} order by i.name, i.architecture`);
    return [...rows];
  }

  async aliases(): Promise<AliasRecord[]> {
    const rows = await this.#db.execute<AliasRecord & Record<string, unknown>>(
      sql`select alias, architecture, image from image_aliases order by alias, architecture`,
    );
    return [...rows];
  }

  /** Makes the rows of a repository those that were found. Zero counts when the registry was removed meanwhile. */
  async update({
    registryId,
    repository,
    images,
    failedTags,
  }: ImageUpdate): Promise<{ changed: number; removed: number }> {
    const [row] = await this.#db.execute<{ changed: number; removed: number }>(sql`
      with registry as (
        select id from container_registries where id = ${registryId}::uuid for share
      ), given as (
        select g.id, g.name, g.tag, g.architecture, g.digest, g."manifestDigest" as manifest_digest,
          g."sizeBytes" as size_bytes, g.labels
        from registry cross join jsonb_to_recordset(${JSON.stringify(images)}::jsonb) as g
          (id uuid, name text, tag text, architecture text, digest text, "manifestDigest" text, "sizeBytes" bigint, labels jsonb)
      ), before as (
        select name, architecture, manifest_digest from images
        where registry_id = ${registryId}::uuid and repository = ${repository}
      ), kept as (
        insert into images (id, registry_id, name, repository, tag, architecture, digest, manifest_digest, size_bytes, labels)
        select id, ${registryId}::uuid, name, ${repository}, tag, architecture, digest, manifest_digest, size_bytes, labels
        from given
        on conflict (name, architecture) do update set registry_id = excluded.registry_id, digest = excluded.digest,
          manifest_digest = excluded.manifest_digest, size_bytes = excluded.size_bytes, labels = excluded.labels,
          scanned_at = now()
      ), removed as (
        delete from images i using registry r
        where i.registry_id = r.id and i.repository = ${repository}
          and not ${JSON.stringify(failedTags)}::jsonb ? i.tag
          and not exists (select 1 from given g where g.name = i.name and g.architecture = i.architecture)
        returning i.id
      )
      select (select count(*)::int from given g left join before b on b.name = g.name and b.architecture = g.architecture
          where b.manifest_digest is distinct from g.manifest_digest) as changed,
        (select count(*)::int from removed) as removed`);
    return row ?? { changed: 0, removed: 0 };
  }

  /** Of repositories that the registry has no more; answers how many. */
  async removeOthers(registryId: string, repositories: readonly string[]): Promise<number> {
    const rows = await this.#db.execute(sql`
      delete from images where registry_id = ${registryId}::uuid
        and not ${JSON.stringify(repositories)}::jsonb ? repository returning id`);
    return rows.length;
  }

  /** With its aliases; false: no registry had it. */
  async forget(name: string, architecture: string): Promise<boolean> {
    const rows = await this.#db.execute(sql`
      with gone as (delete from images where name = ${name} and architecture = ${architecture} returning id),
        unnamed as (delete from image_aliases where image = ${name} and architecture = ${architecture} returning alias)
      select id from gone`);
    return rows.length > 0;
  }

  /** Answers what the alias means now: it is taken when that is another image. */
  async alias({ alias, architecture, image }: AliasRecord): Promise<string> {
    const [row] = await this.#db.execute<{ image: string }>(sql`
      insert into image_aliases (alias, architecture, image) values (${alias}, ${architecture}, ${image})
      on conflict (alias, architecture) do update set image = image_aliases.image returning image`);
    return row!.image;
  }

  async dealias(alias: string, architecture: string | undefined): Promise<boolean> {
    const rows = await this.#db.execute(sql`
      delete from image_aliases where alias = ${alias}
        and architecture = coalesce(${architecture ?? null}::text, architecture) returning alias`);
    return rows.length > 0;
  }
}
