import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openPostgres } from '@backend.ai/database';
import { loadConfig, lockDirectory, portOwner } from '@backend.ai/runtime';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { agentConfiguration } from '../apps/agent/src/server-config.ts';
import { managerConfiguration, managerServerOptions } from '../apps/manager/src/server-config.ts';
import { freePort, missingPackages } from '../scripts/dev-servers/index.ts';
import { runCommand } from './support/command.ts';
import { type DevPlace, freeDevPorts, runDevAt, runDevScript } from './support/run-dev.ts';

/** A development of its own: other folders and ports than those of whoever works here. */
describe.skipIf(missingPackages().length > 0)('scripts/run-dev.sh', () => {
  let folder: string;
  let ports: DevPlace['ports'];
  const { options, runDev, succeed } = runDevAt(() => ({ folder, ports }));
  const owners = () => Promise.all(Object.values(ports).map(async (port) => (await portOwner(port))?.pid));
  const config = (component: string) => ({ file: join(folder, 'configs', `${component}.toml`), env: {}, cwd: folder });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'run-dev-'));
    ports = await freeDevPorts();
  });
  afterAll(async () => {
    await runDev('stop');
    await rm(folder, { recursive: true, force: true });
  });

  it('starts the servers and prepares everything that manager and agent need', async () => {
    const output = await succeed();
    expect(output).toContain('those installed on this machine');
    expect(output).toMatch(/superadmin admin@\S+\n {2}BACKEND_ACCESS_KEY=AKIA\w+\n {2}BACKEND_SECRET_KEY=\S+/);
    expect(output).toMatch(/user user@\S+\n {2}BACKEND_ACCESS_KEY=AKIA\w+/);
    expect(await owners()).not.toContain(undefined);

    const { values, warnings } = loadConfig(managerConfiguration, config('manager'));
    expect(warnings).toEqual([]);
    const { db, close } = await openPostgres({ url: managerServerOptions(values).database.url.reveal() });
    onTestFinished(close);
    expect(await db.execute('select 1 from users')).toHaveLength(2);
    expect(await db.execute("select 1 from pg_database where datname = 'appproxy'")).toHaveLength(1);
    const [role] = await db.execute('select rolsuper from pg_roles where rolname = current_user');
    expect(role?.rolsuper).toBe(false);
    expect(await db.execute('select 1 from peer_tokens where used_at is null')).toHaveLength(1);
    expect(loadConfig(agentConfiguration, config('agent')).values.manager.joinToken?.reveal()).toBeTruthy();
  });

  it('changes nothing that is there when it runs again', async () => {
    const before = { pids: await owners(), config: await readFile(config('manager').file, 'utf8') };
    const credentials = (output: string) => output.match(/BACKEND_\S+/g);
    const [first, second] = [await succeed(), await succeed()];
    expect(second).toContain('up to date');
    expect(credentials(second)).toEqual(credentials(first));
    expect({ pids: await owners(), config: await readFile(config('manager').file, 'utf8') }).toEqual(before);
  });

  it('keeps secrets from other users', async () => {
    for (const name of [
      'dev/secrets',
      'dev/postgres',
      'dev/redis',
      'dev/etcd',
      'dev/manager',
      'configs/manager.toml',
    ]) {
      expect((await stat(join(folder, name))).mode & 0o077, name).toBe(0);
    }
  });

  it('tells what runs, stops it, and finds its data again', async () => {
    expect(await succeed('status')).toContain(`running on 127.0.0.1:${ports.redis}`);
    await succeed('stop');
    expect(await owners()).toEqual([undefined, undefined, undefined]);
    const stopped = await runDev('status');
    expect(stopped.code).toBe(1);
    expect(stopped.stdout.match(/stopped/g)).toHaveLength(3);
    expect(await succeed()).toContain('up to date');
  });

  it('names who has a port that it needs', async () => {
    await succeed('stop');
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(ports.redis, '127.0.0.1', resolve));
    onTestFinished(() => void squatter.close());
    const { code, stderr } = await runDev();
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`Port ${ports.redis}, wanted for Redis, is taken by process ${process.pid} \\(`));
    expect(stderr).not.toContain('    at ');
    expect(await owners()).toEqual([undefined, process.pid, undefined]);
  });

  it('takes the ports of configurations that are there, and names them where they are not the usual ones', async () => {
    const { code, stdout, stderr } = await runCommand(runDevScript, options().slice(0, 4));
    expect(code, stderr).toBe(0);
    expect(await owners()).not.toContain(undefined);
    for (const component of ['manager', 'agent']) {
      expect(stdout).toMatch(new RegExp(` start-server --config \\S*configs/${component}\\.toml\\n`));
    }
  });

  it('changes nothing when it cannot go on: servers run on other ports, or a configuration names others', async () => {
    const redisUrl = () => readFile(join(folder, 'dev', 'secrets', 'redis-url'), 'utf8');
    const before = { pids: await owners(), url: await redisUrl() };
    const other = await freePort();
    const moved = await runDev('--redis-port', String(other));
    const told = `Redis runs already, on port ${ports.redis} and not on ${other}\\.\n.*run-dev\\.sh stop --directory `;
    expect([moved.code, moved.stderr]).toEqual([1, expect.stringMatching(new RegExp(told))]);
    const contrary = await runDev('--etcd-port', String(other));
    const hinted = `manager\\.toml has etcd on port ${ports.etcd}, not on ${other}\\.\n.*--etcd-port`;
    expect([contrary.code, contrary.stderr]).toEqual([1, expect.stringMatching(new RegExp(hinted))]);
    expect({ pids: await owners(), url: await redisUrl() }).toEqual(before);
  });

  it('refuses what it does not know in one sentence', async () => {
    for (const args of [['begin'], ['--redis-prot', '1'], ['--etcd-port', 'x']]) {
      const { code, stderr } = await runCommand(runDevScript, args);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^Error: .*\n {2}See: .*--help\n$/);
    }
  });

  it('takes no folder away from a service that runs', async () => {
    const lock = await lockDirectory(join(folder, 'dev', 'manager'));
    onTestFinished(() => lock.release());
    const before = await owners();
    const refused = await runDev('reset');
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/The manager still runs.*\n {2}End it first/),
    ]);
    expect(await owners()).toEqual(before);
    expect(before.some((pid) => pid !== undefined)).toBe(true);
  });

  it('begins anew after a reset', async () => {
    await succeed('reset');
    expect(await owners()).toEqual([undefined, undefined, undefined]);
    expect(await succeed()).toContain('Migrated: 0001_initial');
  });
});
