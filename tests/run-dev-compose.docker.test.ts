import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openPostgres } from '@backend.ai/database';
import { loadConfig } from '@backend.ai/runtime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { managerConfiguration, managerServerOptions } from '../apps/manager/src/server-config.ts';
import { launcher, runCommand } from './support/command.ts';
import { type DevPlace, freeDevPorts, runDevAt } from './support/run-dev.ts';

/** Of support/server-images/make.sh, which `scripts/test.sh --soak` runs: where it is not, the images cannot be had. */
const archive = process.env.SERVER_IMAGES ?? '';
const docker = (...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync('docker', args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return stdout.trim();
};

/** What the official images are given as their first program. */
const entries: Readonly<Record<string, readonly string[]>> = {
  'postgres:16': ['/usr/local/bin/postgres.sh'],
  'redis:7': [],
  'quay.io/coreos/etcd:v3.5.21': [],
};

describe.skipIf(!existsSync(archive))('scripts/run-dev.sh with containers', () => {
  let folder: string;
  let ports: DevPlace['ports'];
  const { runDev, succeed } = runDevAt(() => ({ folder, ports }), '--docker');
  const containers = (): string[] =>
    docker('ps', '--all', '--filter', 'label=com.docker.compose.project', '--format', '{{.Image}} {{.State}}')
      .split('\n')
      .filter(Boolean)
      .sort();

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'run-dev-'));
    ports = await freeDevPorts();
    for (const [name, entry] of Object.entries(entries)) {
      docker('import', '--change', `ENTRYPOINT ${JSON.stringify(entry)}`, archive, name);
    }
  });
  afterAll(async () => {
    await runDev('stop');
    for (const name of Object.keys(entries)) docker('rmi', name);
    await rm(folder, { recursive: true, force: true });
  });

  it('starts them, waits until each answers, and prepares what manager and agent need', async () => {
    const output = await succeed();
    expect(output).toContain('Servers: Docker containers, as asked for');
    expect(output).toMatch(/superadmin admin@\S+\n {2}BACKEND_ACCESS_KEY=AKIA\w+\n {2}BACKEND_SECRET_KEY=\S+/);
    expect(containers()).toEqual(
      Object.keys(entries)
        .map((name) => `${name} running`)
        .sort(),
    );
    const file = join(folder, 'configs', 'manager.toml');
    const health = await runCommand(launcher, ['mgr', 'health', '--config', file]);
    // No manager runs; the three servers answer with the passwords that were written for it.
    expect(health.stdout).toMatch(/✓ PostgreSQL[\s\S]*✓ Redis[\s\S]*✓ etcd/);
  });

  it('keeps the data when they are stopped and started again', async () => {
    const { values } = loadConfig(managerConfiguration, {
      ...{ file: join(folder, 'configs', 'manager.toml'), env: {}, cwd: folder },
    });
    const url = managerServerOptions(values).database.url.reveal();
    const keys = async (): Promise<unknown[]> => {
      const { db, close } = await openPostgres({ url });
      return await db.execute('select access_key from keypairs order by 1').finally(close);
    };
    const before = await keys();
    expect(before).toHaveLength(2);
    await succeed('stop');
    expect(containers()).toEqual([]);
    expect(await succeed()).toContain('Database: up to date');
    expect(await keys()).toEqual(before);
    expect(await succeed('status')).toMatch(/postgres[\s\S]*redis|redis[\s\S]*postgres/);
  });

  it('leaves no container and no data behind a reset', async () => {
    await succeed('reset');
    expect(containers()).toEqual([]);
    expect(existsSync(join(folder, 'dev', 'docker'))).toBe(false);
  });
});
