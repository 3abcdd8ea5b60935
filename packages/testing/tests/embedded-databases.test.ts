import { readdir } from 'node:fs/promises';
import type { DatabaseHandle } from '@backend.ai/database';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EmbeddedDatabases } from '../src/embedded-databases.ts';
import { makeTempDirectory, migratedTemplate, type TempDirectory } from '../src/index.ts';

const domains = (handle: DatabaseHandle) => handle.db.execute('select name from domains');
const addDomain = (handle: DatabaseHandle) => handle.db.execute(`insert into domains (name) values ('left')`);
const policies = (handle: DatabaseHandle) => handle.db.execute('select * from user_resource_policies order by name');

describe('embedded databases of a test process', () => {
  let directory: TempDirectory;
  let databases: EmbeddedDatabases;
  const started = async (): Promise<string[]> => (await readdir(directory.path)).filter((name) => !name.includes('.'));
  beforeAll(async () => {
    directory = await makeTempDirectory();
    databases = new EmbeddedDatabases(directory.path, await migratedTemplate());
  });
  afterAll(() => directory.remove());

  it('come back with the rows of migrations alone, without settings and open transactions, sequences at their start', async () => {
    const first = await databases.take({});
    const original = await policies(first);
    expect(original).not.toEqual([]);
    const nextRevision = `select nextval('config_revisions')`;
    const revision = await first.db.execute(nextRevision);
    await addDomain(first);
    await first.db.execute(`update user_resource_policies set name = 'renamed'`);
    await first.db.execute('set statement_timeout to 5000');
    await first.db.execute('begin');
    await first.db.execute('delete from user_resource_policies');
    await first.close();

    const second = await databases.take({});
    expect(await domains(second)).toEqual([]);
    expect(await policies(second)).toEqual(original);
    expect(await second.db.execute(nextRevision)).toEqual(revision);
    expect(await second.db.execute('show statement_timeout')).toEqual([{ statement_timeout: '0' }]);
    await expect(domains(first)).rejects.toThrow();
    await second.close();
    expect(await started()).toHaveLength(1);
  });

  it('are removed when definitions were changed, and another one takes the place', async () => {
    const first = await databases.take({});
    const [changed] = await started();
    await first.db.execute('alter table domains add column extra text');
    await first.close();
    expect(await started()).toEqual([]);

    const [second, third] = await Promise.all([databases.take({}), databases.take({})]);
    expect(await started()).toHaveLength(2);
    expect(await started()).not.toContain(changed);
    await addDomain(second);
    expect(await domains(third)).toEqual([]);
    await Promise.all([second.close(), third.close()]);
  });
});
