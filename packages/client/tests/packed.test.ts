import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { TestCluster } from '../../../tests/support/cluster.ts';

const exec = promisify(execFile);
const repository = fileURLToPath(new URL('../../..', import.meta.url));
const packages = ['core', 'contract', 'client'];
let project: string;
beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'outside-'));
  await exec('npx', ['tsc', '-b', 'packages/client'], { cwd: repository });
  await exec(
    'npm',
    ['pack', '--silent', '--pack-destination', project, ...packages.map((name) => `./packages/${name}`)],
    {
      cwd: repository,
    },
  );
  const tarballs = packages.map((name) => `./backend.ai-${name}-0.1.0.tgz`);
  await writeFile(join(project, 'package.json'), '{ "name": "outside", "private": true, "type": "module" }');
  const install = ['install', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'];
  await exec('npm', [...install, '@types/node@20', ...tarballs], { cwd: project });
  await copyFile(join(repository, 'examples/sdk-session.ts'), join(project, 'sdk-session.ts'));
}, 180_000);
afterAll(() => rm(project, { recursive: true, force: true }));

const compilerOptions = (module: string): string[] => [
  ...[
    '--strict',
    '--noUncheckedIndexedAccess',
    '--exactOptionalPropertyTypes',
    '--target',
    'es2023',
    '--types',
    'node',
  ],
  ...['--module', module, '--moduleResolution', module === 'nodenext' ? 'nodenext' : 'bundler'],
];

/** Errors of the compiler, none when it is content. */
async function check(module: string, ...options: string[]): Promise<string> {
  const tsc = join(repository, 'node_modules/typescript/bin/tsc');
  return exec('node', [tsc, ...compilerOptions(module), ...options, 'sdk-session.ts'], { cwd: project }).then(
    () => '',
    (error: { stdout: string }) => error.stdout,
  );
}

describe('the packed SDK in a project outside the repository', () => {
  it('has no dependency that only a workspace could resolve, and only built files', async () => {
    for (const name of packages) {
      const folder = join(project, 'node_modules/@backend.ai', name);
      const { dependencies = {} } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
        dependencies?: Record<string, string>;
      };
      expect(Object.values(dependencies).filter((range) => !/^\d/.test(range))).toEqual([]);
      const { stdout } = await exec('find', [folder, '-name', '*.test.*', '-o', '-path', '*/src/*']);
      expect(stdout).toBe('');
    }
  });

  it('brings its licence', async () => {
    const licence = await readFile(join(repository, 'LICENSE'), 'utf8');
    for (const name of packages)
      expect(await readFile(join(project, 'node_modules/@backend.ai', name, 'LICENSE'), 'utf8')).toBe(licence);
  });

  it('has all entries that it names', async () => {
    for (const name of packages) {
      const folder = join(project, 'node_modules/@backend.ai', name);
      const { exports } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
        exports: Record<string, Record<string, string>>;
      };
      for (const { types = '', default: code = '' } of Object.values(exports))
        for (const file of [types, code]) expect(await readFile(join(folder, file), 'utf8')).not.toBe('');
    }
  });

  it.each(['nodenext', 'esnext'])('passes tsc --strict with module %s', async (module) => {
    expect(await check(module, '--noEmit', '--skipLibCheck')).toBe('');
  });

  it('has types that are sound in themselves', async () => {
    const errors = (await check('nodenext', '--noEmit')).split('\n').filter((line) => line.includes('@backend.ai/'));
    expect(errors).toEqual([]);
  }, 180_000);

  it('finds a wrong field at compile time', async () => {
    await writeFile(
      join(project, 'wrong.ts'),
      `import { createClient } from '@backend.ai/client';
       const client = createClient({ endpoint: '', accessKey: '', secretKey: '' });
       // @ts-expect-error
       await client.sessions.create({ image: 'python', resorces: {} });
       const session = await client.sessions.get('x');
       // @ts-expect-error
       session.view.stats;
       const status: 'RUNNING' | string = session.view.status;
       // @ts-expect-error
       await client.rpc.session.get.query({ name: 'x' });
       console.log(status);`,
    );
    const tsc = join(repository, 'node_modules/typescript/bin/tsc');
    const checked = exec('node', [tsc, ...compilerOptions('nodenext'), '--noEmit', '--skipLibCheck', 'wrong.ts'], {
      cwd: project,
    });
    await expect(checked).resolves.toMatchObject({ stdout: '' });
  });

  it('runs against a cluster', async () => {
    const cluster = await TestCluster.start();
    onTestFinished(() => cluster.stop());
    expect(await check('nodenext', '--skipLibCheck')).toBe('');
    const { endpoint, accessKey, secretKey } = cluster.credentials;
    const { stdout } = await exec('node', ['sdk-session.js'], {
      cwd: project,
      env: {
        ...process.env,
        BACKEND_ENDPOINT: endpoint,
        BACKEND_ACCESS_KEY: accessKey,
        BACKEND_SECRET_KEY: secretKey,
      },
    });
    expect(stdout).toContain('I am admin@');
    expect(stdout).toContain('sum 10\nExit code 0');
    expect(stdout).toContain('Downloaded: 10');
    expect(stdout).toContain('numbers.txt');
    const { sessions } = await cluster.json<{ sessions: Array<{ status: string }> }>(['ps', '--all']);
    expect(sessions).toMatchObject([{ status: expect.stringMatching(/^TERMINAT/) }]);
  });

  it('brings a fake API for tests of applications', async () => {
    const application = `
      import { createClient } from '@backend.ai/client';
      import { startFakeApi } from '@backend.ai/client/testing';
      await using api = await startFakeApi();
      console.log((await createClient({ endpoint: api.endpoint, ...api.credentials }).auth.whoami()).email);`;
    await writeFile(join(project, 'fake.ts'), application);
    const tsc = join(repository, 'node_modules/typescript/bin/tsc');
    await exec('node', [tsc, ...compilerOptions('nodenext'), '--skipLibCheck', 'fake.ts'], { cwd: project });
    expect((await exec('node', ['fake.js'], { cwd: project })).stdout).toBe('user@example.com\n');
  });
});
