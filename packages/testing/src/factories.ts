import { type AccessKey, newId, type ProjectId, type UserId } from '@backend.ai/core';
import {
  type Database,
  type DomainRow,
  domains,
  type KeypairRow,
  keypairs,
  type ProjectRow,
  projectMembers,
  projects,
  type UserRow,
  users,
} from '@backend.ai/database';

let count = 0;

/** Unique within a process, readable in failures: `user-7`. */
function named(kind: string): string {
  count += 1;
  return `${kind}-${count}`;
}

export async function createDomain(db: Database, values: Partial<DomainRow> = {}): Promise<DomainRow> {
  const [row] = await db
    .insert(domains)
    .values({ name: named('domain'), ...values })
    .returning();
  return row!;
}

/** In a new domain unless `domainName` is given. */
export async function createProject(db: Database, values: Partial<ProjectRow> = {}): Promise<ProjectRow> {
  const domainName = values.domainName ?? (await createDomain(db)).name;
  const [row] = await db
    .insert(projects)
    .values({ id: newId<ProjectId>(), name: named('project'), ...values, domainName })
    .returning();
  return row!;
}

/** In a new domain unless `domainName` is given; without a password. */
export async function createUser(db: Database, values: Partial<UserRow> = {}): Promise<UserRow> {
  const domainName = values.domainName ?? (await createDomain(db)).name;
  const username = values.username ?? named('user');
  const [row] = await db
    .insert(users)
    .values({ id: newId<UserId>(), email: `${username}@example.test`, ...values, username, domainName })
    .returning();
  return row!;
}

/** Of a new user unless `userId` is given. The stored secret is not a decryptable one. */
export async function createKeypair(db: Database, values: Partial<KeypairRow> = {}): Promise<KeypairRow> {
  const userId = values.userId ?? (await createUser(db)).id;
  const accessKey = `AKIA${newId().replaceAll('-', '').slice(-16).toUpperCase()}` as AccessKey;
  const [row] = await db
    .insert(keypairs)
    .values({ accessKey, secretKeyEncrypted: 'not-encrypted', ...values, userId })
    .returning();
  return row!;
}

export interface Tenant {
  readonly domain: DomainRow;
  readonly project: ProjectRow;
  readonly user: UserRow;
  readonly keypair: KeypairRow;
}

/** A user with a key pair who is a member of a project: what a session needs to belong to somebody. */
export async function createTenant(db: Database): Promise<Tenant> {
  const domain = await createDomain(db);
  const project = await createProject(db, { domainName: domain.name });
  const user = await createUser(db, { domainName: domain.name });
  await db.insert(projectMembers).values({ projectId: project.id, userId: user.id });
  return { domain, project, user, keypair: await createKeypair(db, { userId: user.id }) };
}
