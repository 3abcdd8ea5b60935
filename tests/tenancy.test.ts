import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import type { CommandResult } from './support/command.ts';

/** A real cluster that an administrator divides among people, on the command line only. */
let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
}, 120_000);
afterAll(() => cluster?.stop());

interface Made {
  readonly keypair: { readonly accessKey: string };
  readonly secretKey: string;
}

/** Somebody else at the same machine, who logs in with own keys. */
function person(name: string, { keypair, secretKey }: Made) {
  const env = { XDG_CONFIG_HOME: `${cluster.dataDir}/${name}` };
  return {
    accessKey: keypair.accessKey,
    login: () =>
      cluster.json<{ user: { email: string; role: string } }>(
        ['login', '--access-key', keypair.accessKey, '--secret-key', secretKey],
        { env },
      ),
    json: <T>(line: string) => cluster.json<T>(line.split(' '), { env }),
    cli: (line: string): Promise<CommandResult> => cluster.cli(line.split(' '), { env }),
  };
}
const admin = <T>(line: string): Promise<T> => cluster.json<T>(line.split(' '));

interface Session {
  readonly id: string;
  readonly name: string;
}

test('people use what an administrator gave them, see what is theirs, and are out once they are deactivated', async () => {
  await admin('admin domain add research');
  await admin('admin keypair-resource-policy add student --total-resource-slots cpu=1 --max-priority 20');
  const head = person('head', await admin<Made>('admin user add research head@lab.org --role admin'));
  expect(await head.login()).toMatchObject({ user: { email: 'head@lab.org', role: 'admin' } });

  await head.json('admin group add genome --domain research');
  const ada = person('ada', await head.json<Made>('admin user add research ada@lab.org'));
  await head.json('admin group add-users genome ada@lab.org --domain research');
  await admin(`admin keypair update ${ada.accessKey} --resource-policy student`);
  expect(await ada.login()).toMatchObject({ user: { email: 'ada@lab.org', role: 'user' } });

  const where = '--domain research --group genome -r cpu=1 -r mem=64m';
  const { session } = await ada.json<{ session: Session }>(`session create python --name first ${where}`);
  await ada.json('session wait first');
  // The limit of one core lets the second one wait, and that of priorities refuses the third.
  await ada.json(`session create python --name second --enqueue-only ${where}`);
  expect(await ada.cli(`session create python --priority 30 ${where}`)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('[quota-exceeded]'),
  });

  const names = ({ sessions }: { sessions: Session[] }): string[] => sessions.map(({ name }) => name).sort();
  await admin('session create python --name of-admin -r cpu=1 -r mem=64m --enqueue-only');
  expect(names(await ada.json('ps --everyone'))).toEqual(['first', 'second']);
  expect(names(await head.json('ps'))).toEqual([]);
  expect(names(await head.json('ps --everyone'))).toEqual(['first', 'second']);
  expect(names(await admin('ps --everyone'))).toEqual(['first', 'of-admin', 'second']);
  expect((await ada.cli('admin user add research eve@lab.org')).stderr).toContain('[forbidden]');
  expect((await head.cli('admin domain add another')).stderr).toContain('[forbidden]');

  const { entries } = await head.json<{ entries: Array<Record<string, unknown>> }>(
    `admin audit list --kind session --id ${session.id}`,
  );
  expect(entries).toMatchObject([{ action: 'session:create', email: 'ada@lab.org', outcome: 'done' }]);

  for (const name of ['first', 'second']) await ada.json(`session destroy ${name}`);
  await head.json(`admin keypair deactivate ${ada.accessKey}`);
  expect(await ada.cli('ps')).toMatchObject({ code: 1, stderr: expect.stringContaining('[auth-unknown-key]') });
  await admin('admin user update head@lab.org --status inactive');
  expect(await head.cli('ps')).toMatchObject({ code: 1, stderr: expect.stringContaining('[auth-unknown-key]') });
}, 180_000);
