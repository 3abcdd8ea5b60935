import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '@backend.ai/client';
import { withDatabase } from '@backend.ai/database';
import { waitFor } from '@backend.ai/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { missingPackages } from '../scripts/dev-servers/index.ts';
import { TestInstallation } from './support/installation.ts';
import { Service } from './support/service.ts';
import { output, type RememberingSession, recovers, rememberingSession, runsSessions } from './support/sessions.ts';

const withoutServers = missingPackages().length > 0;
let installation: TestInstallation;
beforeAll(async () => {
  if (!withoutServers) installation = await TestInstallation.start();
}, 180_000);
afterAll(() => installation?.stop(), 120_000);

/** Both managers see the sessions of both: whatever a fault did, this is true again soon after it. */
const worksOn = (manager: 1 | 2): Promise<void> => runsSessions(installation, manager);
const remembering = (client: Client): Promise<RememberingSession> => rememberingSession(installation, client);

const leading = (): Promise<1 | 2> =>
  waitFor(() => installation.leader(), { intervalMs: 200, what: 'a manager leads' }) as Promise<1 | 2>;
const other = (manager: 1 | 2): 1 | 2 => (manager === 1 ? 2 : 1);

describe.skipIf(withoutServers)('two managers and two agents on PostgreSQL, Redis and etcd', () => {
  afterEach(async () => {
    expect(await installation.json(['mgr', 'verify'])).toMatchObject({ violations: [] });
  });

  it('are healthy, each by its own word', async () => {
    const manager = await installation.json<{ healthy: boolean; dependencies: Array<{ name: string }> }>([
      'mgr',
      'health',
    ]);
    expect(manager.healthy).toBe(true);
    const names = ['PostgreSQL', 'Schema', 'Redis', 'etcd', 'Installation key'];
    expect(manager.dependencies.map(({ name }) => name)).toEqual(names);
    expect(await installation.json(['ag', 'health'])).toMatchObject({ healthy: true });
    const absent = await installation.cli(['storage', 'health']);
    expect([absent.code, absent.stderr]).toEqual([1, expect.stringMatching(/^Error: .* not part of this version/)]);
  });

  it('run the same sessions, whichever manager is asked', async () => {
    const [first, second] = [installation.client(1), installation.client(2)];
    await using session = await first.sessions.create({ image: 'python', resources: { cpu: '1', mem: '128m' } });
    const seen = await second.sessions.get(session.id);
    await seen.waitUntilRunning({ timeoutMs: 60_000 });
    expect(await output(seen, 'x = 1; print(x)')).toBe('1\n');
    expect(await output(session, 'print(x + 1)')).toBe('2\n');
    expect(await leading()).toBeDefined();
    expect([(await installation.managerStatus(1)).epoch, (await installation.managerStatus(2)).epoch]).toContain(null);
  });

  it('place sessions on both agents', async () => {
    const client = installation.client(1);
    const wants = { image: 'python', resources: { cpu: '3', mem: '128m' } };
    await using first = await client.sessions.create(wants);
    await using second = await client.sessions.create(wants);
    await Promise.all([first, second].map((session) => session.waitUntilRunning({ timeoutMs: 60_000 })));
    const kernels = [await installation.agentStatus(1), await installation.agentStatus(2)].map((each) => each.kernels);
    expect(kernels.map((each) => each.filter(({ state }) => state === 'running').length)).toEqual([1, 1]);
  });

  it('explain why a session waits and what would let it start, also where the manager that is asked does not lead', async () => {
    const first = await leading();
    const second = other(first);
    const wants = { image: 'python', resources: { cpu: '4', mem: '128m' } };
    const client = installation.client(second);
    await using one = await client.sessions.create(wants);
    await using two = await client.sessions.create(wants);
    await Promise.all([one, two].map((session) => session.waitUntilRunning({ timeoutMs: 60_000 })));
    await using waiting = await client.sessions.create(wants);
    const { waiting: told } = await waitFor(
      async () => {
        const explanation = await waiting.explain();
        return explanation.waiting?.reasons[0]?.code === 'insufficient-resources' && explanation;
      },
      { what: 'it is explained that nothing is free' },
    );
    expect((await installation.managerStatus(second)).epoch).toBeNull();
    expect(told).toMatchObject({ position: 1, queueLength: 1, agents: { total: 2, open: 0 } });
    const help = told!.ways.flat().find((change) => change.kind === 'wait-for-sessions');
    const helpful = [one, two].find(({ id }) => id === help?.facts.sessions.known[0]?.id);
    expect((await (await installation.client(first).sessions.get(waiting.id)).explain()).waiting?.ways).toEqual(
      told!.ways,
    );

    await helpful!.destroy();
    await waiting.waitUntilRunning({ timeoutMs: 60_000 });
    expect(await waiting.explain()).toMatchObject({ waiting: null, placement: { decisions: [{ suitable: 2 }] } });
  });

  it('tell no secret in logs, process lists or shown configuration', async () => {
    const shown = await installation.cli(['mgr', 'config', 'show']);
    const agentShown = await installation.cli(['ag', 'config', 'show']);
    expect(shown.stdout).toContain('database.password');
    const commands = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        } catch {
          return '';
        }
      })
      .join('\n');
    expect(commands).toContain('start-server');
    const logs = [...installation.managers, ...installation.agents].map(({ log }) => log).join('\n');
    expect(logs).toContain('registered with a manager');
    for (const text of [shown.stdout, agentShown.stdout, commands, logs]) {
      for (const secret of installation.secrets) expect(text.includes(secret)).toBe(false);
    }
  });

  it('go on when the leader is killed: the other leads, sessions live, new ones start', async () => {
    const { session, remembers } = await remembering(installation.client(1));
    const first = await leading();
    await installation.managers[first - 1]!.end('SIGKILL');
    await remembers(other(first));
    await worksOn(other(first));
    expect(await leading()).toBe(other(first));
    await installation.managers[first - 1]!.start();
    await worksOn(first);
    await session.destroy();
  });

  it('start each session once when the leader is paused beyond its lease in the middle of its work', async () => {
    const first = await leading();
    const second = other(first);
    const before = (await installation.managerStatus(first)).epoch ?? 0;
    const paused = installation.managers[first - 1]!;
    const client = installation.client(second);
    const wants = { image: 'python', resources: { cpu: '1', mem: '128m' } };
    const sessions = await Promise.all(Array.from({ length: 6 }, () => client.sessions.create(wants)));
    paused.signal('SIGSTOP');
    const next = await waitFor(async () => (await installation.managerStatus(second)).epoch, {
      what: 'the other one leads',
    });
    expect(next).toBeGreaterThan(before);
    await Promise.all(sessions.map((session) => session.waitUntilRunning({ timeoutMs: 60_000 })));
    paused.signal('SIGCONT');
    await waitFor(async () => (await installation.managerStatus(first)).epoch === null, { timeoutMs: 10_000 });
    expect((await installation.managerStatus(second)).epoch).toBe(next);

    const kernels = [await installation.agentStatus(1), await installation.agentStatus(2)].flatMap(
      (each) => each.kernels,
    );
    const running = kernels.filter(({ state }) => state === 'running').map(({ kernelId }) => kernelId);
    const wanted = sessions.flatMap(({ view }) => view.kernels.map(({ id }) => id));
    expect(running.toSorted()).toEqual(wanted.toSorted());
    for (const session of sessions) {
      const states = (await session.history()).filter(({ from, to }) => from !== to).map(({ to }) => to);
      expect(states).toEqual([...new Set(states)]);
      expect(states.at(-1)).toBe('RUNNING');
    }
    await Promise.all(sessions.map((session) => session.destroy()));
  });

  it('go on after PostgreSQL was killed and started again', async () => {
    const session = await remembering(installation.client(1));
    await installation.postgres.kill();
    for (const manager of installation.managers) {
      // Proxies that ask either of them send their requests elsewhere.
      expect(await manager.health('API')).toMatchObject({
        status: 503,
        text: expect.stringContaining('"ready":false'),
      });
      const { status, text } = await manager.health('Health');
      expect([status, text]).toEqual([
        503,
        expect.stringContaining(`No PostgreSQL answers at 127.0.0.1:${installation.postgres.port}.`),
      ]);
      expect(text).not.toMatch(/query|select/);
    }
    await installation.postgres.start();
    await recovers(installation, session);
    for (const manager of installation.managers) {
      // What was found a moment ago counts for a moment.
      await waitFor(async () => (await manager.health('API')).status === 200, { timeoutMs: 10_000, what: 'readiness' });
    }
    await session.session.destroy();
  });

  it('go on after Redis was emptied, and after it was started again', async () => {
    const session = await remembering(installation.client(1));
    installation.flushRedis();
    await recovers(installation, session);
    await installation.redis.stop();
    await session.remembers(1);
    expect((await installation.managers[0]!.health('API')).status).toBe(200);
    await installation.redis.start();
    await recovers(installation, session);
    await session.session.destroy();
  });

  it('get an agent back with its sessions, and their state, after it was killed', async () => {
    const session = await remembering(installation.client(1));
    for (const agent of installation.agents) await agent.end('SIGKILL');
    for (const agent of installation.agents) await agent.start();
    await recovers(installation, session);
    await session.session.destroy();
  });

  it('move agents to the other manager when theirs ends in order, which takes no session with it', async () => {
    const { session, remembers } = await remembering(installation.client(2));
    expect(await installation.managers[0]!.end('SIGTERM')).toBe(0);
    await waitFor(async () => (await installation.managerStatus(2)).connectedAgents.length === 2);
    const stopped = await installation.cli(['mgr', 'status']);
    expect([stopped.code, stopped.stdout]).toEqual([1, '']);
    expect(stopped.stderr).toMatch(/^Error: No manager runs here\. \[server-unreachable\]\n {2}Start it: .*\n/);
    await remembers(2);
    await installation.managers[0]!.start();
    await remembers(1);
    await session.destroy();
  });

  it('back up and restore: another installation has the same sessions and credentials', async () => {
    const session = await installation.client(1).sessions.create({ image: 'python', name: 'kept-in-backup' });
    await session.waitUntilRunning({ timeoutMs: 60_000 });
    await session.destroy();
    const file = join(installation.directory, 'installation.backup');
    await installation.json(['mgr', 'backup', file]);
    const name = 'restored';
    execFileSync('psql', [installation.postgres.url, '-q', '-c', `create database ${name} owner backend`], {
      stdio: 'pipe',
    });
    const folder = join(installation.directory, 'restored');
    const elsewhere = [
      ...['--set', `database.name=${name}`, '--set', `manager.data-dir=${folder}`, '--set', 'etcd.namespace=/restored'],
      ...['--set', 'http.port=0', '--set', 'rpc.port=0', '--set', 'metrics.port=0'],
    ];
    await installation.json(['mgr', 'restore', file, ...elsewhere]);
    expect(await installation.json(['mgr', 'verify', ...elsewhere])).toMatchObject({ violations: [] });
    const again = await installation.cli(['mgr', 'restore', file, ...elsewhere]);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('not empty')]);
    expect(await installation.json(['mgr', 'dbschema', 'show', ...elsewhere])).toMatchObject({ pending: [] });

    const args = ['mgr', 'start-server', ...elsewhere, '--set', 'manager.id=m-restored'];
    const manager = new Service(args, { cwd: installation.directory });
    try {
      const { addresses } = await manager.start();
      // Signed with the credentials of the first installation.
      const restored = await installation.clientAt(addresses.API!).sessions.get(session.id);
      expect(restored.view).toMatchObject({ id: session.id, name: 'kept-in-backup', status: 'TERMINATED' });
      expect(await restored.history()).toEqual(await session.history());
    } finally {
      await manager.end();
    }
  });
});

/** In a log record, too, in which ends of lines are escaped. */
const stack = /(?:\n|\\n)\s+at /;

describe.skipIf(withoutServers)('a manager that cannot start', () => {
  const urlFiles = { absent: 'redis://127.0.0.1:1', refused: '' };
  const urlFile = (name: keyof typeof urlFiles): string => join(installation.directory, `redis-${name}`);
  const psql = (database: string, statement: string) =>
    execFileSync('psql', [withDatabase(installation.postgres.url, database), '-q', '-c', statement], { stdio: 'pipe' });
  beforeAll(async () => {
    const texts = { ...urlFiles, refused: installation.redis.url.replace(/:[^:@]*@/, ':wrong@') };
    for (const [name, text] of Object.entries(texts)) {
      writeFileSync(urlFile(name as keyof typeof urlFiles), text, { mode: 0o600 });
    }
    psql('postgres', 'create database older owner backend');
    await installation.json(['mgr', 'dbschema', 'migrate', '--to', '0001_initial', '--set', 'database.name=older']);
    psql('postgres', 'create database newer owner backend');
    await installation.json(['mgr', 'dbschema', 'migrate', '--set', 'database.name=newer']);
    psql('newer', "insert into schema_migrations (name, hash) values ('9999_of_later', 'x')");
  });
  it('is none that ran before the schema was brought forward: those stay in service', async () => {
    const later = "'9999_of_later'";
    psql('backend', `insert into schema_migrations (name, hash) values (${later}, 'x')`);
    try {
      for (const manager of installation.managers) {
        const { status, text } = await waitFor(async () => {
          const health = await manager.health('Health');
          expect(health.text).toContain('newer than this manager');
          return health;
        });
        expect([status, text]).toEqual([200, expect.stringContaining('9999_of_later')]);
        expect((await manager.health('API')).status).toBe(200);
      }
    } finally {
      psql('backend', `delete from schema_migrations where name = ${later}`);
    }
  });

  const attempt = (...settings: string[]) =>
    installation.cli(['mgr', 'start-server', ...settings.flatMap((setting) => ['--set', setting])]);
  const elsewhere = () => [
    `manager.data-dir=${join(installation.directory, 'other-manager')}`,
    ...['manager.id=m-other', 'http.port=0', 'rpc.port=0', 'metrics.port=0'],
  ];

  it.each([
    ['nobody answers as the database', ['database.port=1'], /No PostgreSQL answers at 127\.0\.0\.1:1\./],
    ['the password is wrong', ['database.user=nobody-knows'], /refuses the user "nobody-knows"/],
    ['the database is not there', ['database.name=absent'], /There is no database "absent"/],
    ['the database is empty', ['database.name=template1'], /database is empty.*\n.*mgr dbschema migrate/s],
    ['the schema is older', ['database.name=older'], /at 0001_initial.*needs \d+ more.*\n.*mgr dbschema migrate/s],
    ['the schema is newer', ['database.name=newer'], /9999_of_later.*does not know.*\n {2}\S/s],
    ['nobody answers as Redis', () => [`redis.url-file=${urlFile('absent')}`], /Redis.*127\.0\.0\.1:1/],
    ['the password of Redis is wrong', () => [`redis.url-file=${urlFile('refused')}`], /Redis.*password/],
    ['nobody answers as etcd', ['etcd.endpoints=http://127.0.0.1:1'], /etcd.*127\.0\.0\.1:1/],
    ['its folder is in use', () => [`manager.data-dir=${installation.directory}/manager`], /in use by process \d+/],
    ['a setting is misspelt', ['scheduler.tick-mss=5'], /scheduler\.tick-mss.*scheduler\.tick-ms/s],
  ] as ReadonlyArray<[string, string[] | (() => string[]), RegExp]>)(
    'says so in one sentence with the next step when %s',
    async (_case, settings, told) => {
      const given = typeof settings === 'function' ? settings() : settings;
      const { code, stderr } = await attempt(...elsewhere(), ...given);
      expect(code).toBe(1);
      expect(stderr.slice(stderr.indexOf('Error: '))).toMatch(told);
      // Of a log record, too, in which ends of lines are escaped.
      expect(stderr).not.toMatch(/(?:\n|\\n)\s+at /);
      for (const secret of installation.secrets) expect(stderr.includes(secret)).toBe(false);
    },
  );

  it('nor can an agent whose port is taken, which names the process that has it', async () => {
    const { port, pid } = installation.redis;
    const settings = { 'agent.data-dir': join(installation.directory, 'other-agent'), 'data-port.port': port };
    const { code, stderr } = await installation.cli([
      ...['ag', 'start-server', '--set', 'agent.id=i-other', '--set', 'rpc.port=0', '--set', 'metrics.port=0'],
      ...Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`]),
    ]);
    expect(code).toBe(1);
    const told = `Error: Port ${port} on 127.0.0.1 is in use. [port-in-use]\n  Process ${pid} has it (`;
    expect(stderr).toContain(told);
    expect(stderr).not.toMatch(stack);
  });

  it('names file, line and the nearest name for a key of the file that is unknown', async () => {
    const file = join(installation.directory, 'misspelt.toml');
    writeFileSync(file, '[manager]\n[http]\nprot = 8091\n');
    const { code, stderr } = await installation.cli(['mgr', 'config', 'check', '--config', file]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/misspelt\.toml:3.*port/s);
  });
});
